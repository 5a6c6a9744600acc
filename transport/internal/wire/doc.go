// Package wire converts between the structs of internal/api and the messages
// of mq.v1. It decides nothing: what has no meaning here travels as it is, and
// the broker judges it.
//
// An encoded message shares byte slices and scalars with the struct that it
// was made from, so a record batch is not copied here. A decoded struct shares
// byte slices with its message, which nobody else holds.
//
// Absent on the wire is, on this side, NoEpoch for a leader epoch, -1 for a
// member epoch, the zero UUID for a topic id, and AcksAll for acks.
package wire
