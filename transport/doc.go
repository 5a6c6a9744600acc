// Package transport moves api.Broker between programs, over gRPC. Serve puts a
// broker behind a socket, Dial gives an api.Broker whose calls go there. It
// takes no decision: no leader is looked up here and nothing is tried again.
//
// # In process
//
// There the api.Broker itself is the door: callers hold it and call it. Both
// doors keep the same rules, those written at api.Broker, and package
// transporttest checks them on both: a request's slices belong to the callee
// until the answer came, an answer belongs to the caller, who may write to it.
// Over gRPC both are copies; a broker called in process therefore must not
// hand out memory that it goes on using.
//
// # The protocol
//
// The .proto files below proto/ are its description: calls, versions, errors
// and sizes. Record batches travel in them unchanged. Produce is one stream
// per Client, which keeps the order of its batches; all else are single calls,
// a fetch that waits being a long one.
//
// # Errors
//
// The table of mqerr holds on both sides: what is an error of the broker comes
// out of the Client with the same sentinel, the same facts (mqerr.Detail) and
// the same text. What befell the connection is told apart by whether the
// request had left this program. If not, nothing happened: ErrLeaderNotAvailable.
// If it had, and it is one that changes something, nobody knows: ErrTimeout.
//
// This package may change in any version; only the root package is a promise.
package transport

//go:generate go -C .. tool -modfile=internal/tools/go.mod buf lint transport/proto
//go:generate go -C .. tool -modfile=internal/tools/go.mod buf generate transport/proto --template transport/proto/buf.gen.yaml
