// Package produce turns records into batches and gets each batch into its
// partition once, in order, or says that it could not. It is what mq.Producer
// is made of.
//
// # Path of a record
//
//	Add ─► budget ─► topic ─► partition.queue ─► sender of the leader ─► broker
//	       (waits)  (parked    (batches, in       (encodes, hands over,
//	                 until      order; the last    one request in call
//	                 known)     may be open)       order per leader)
//	                                                      │ answer
//	Promise.Settle ◄─ one callback goroutine ◄────────────┘
//
// Goroutines: one timer loop (linger, deadlines, metadata), one sender per
// leader, one for callbacks. All state is behind Engine.mu; the rules of one
// partition are in partition.go, without goroutines or locks, and easy to
// test. A batch is encoded by its sender outside the lock: it is sealed first,
// so that nothing else touches its records meanwhile.
//
// # Life of a batch
//
//	open ──full, linger over, or somebody waits──► sent ◄──resend──┐
//	                                                │              │ R, M, U: back-off
//	                                                ├──────────────┘
//	                                                ▼
//	                             done: acknowledged, or failed with an error
//
// # Exactly once, in order
//
// A batch carries an identity (producer id, epoch) and the sequence of its
// first record. The broker appends a batch only if its sequence follows the
// last one appended under that identity, answers a repeated one with the
// original offset, refuses one that is ahead with ErrOutOfOrderSequence, starts
// a new epoch only at sequence 0, and refuses epochs below the newest it saw.
// Identities are per partition: to the broker, partitions share nothing but
// the id. The engine keeps these invariants:
//
//  1. Batches of a partition are sent for the first time in the order of Add,
//     with sequences without gap or repetition.
//  2. A batch that was built keeps its records, its bytes, and as long as the
//     identity lasts its sequence. So a resend, after a lost answer as after a
//     refusal, can't duplicate, and the broker itself keeps the order of what
//     is in flight.
//  3. When a sequence can't be used up (its batch failed for good, its deadline
//     passed, or the broker forgot the producer), the partition sends nothing
//     behind it, waits until nothing is in flight, and takes a new identity: the
//     next epoch, at sequence 0.
//  4. A batch moves to the new identity only if every attempt under the old one
//     was refused, so that no copy of it is in the log or on its way there. One
//     whose outcome is unknown fails as such. So a new identity can't duplicate.
//     Of a topic that was deleted and created anew only the new log counts.
//  5. A copy of a failed batch that is still on its way is appended before the
//     first batch of the new epoch or refused because of it. So it can't come
//     out of order.
//
// The one exception: when epochs run out (after 32,767 such events in one
// partition) the partition takes a new id, which fences nothing.
//
// With AcksNone there is no identity, one batch in flight per partition, and an
// unknown outcome is final.
package produce
