// Package group holds the rules of balanced consumer groups in the shape of
// KIP-848: who is a member, who should read which partition, and how partitions
// go from one member to another. It does no I/O, starts no goroutine and knows
// no clock, so that all of its rules can be tested alone.
//
// A State is immutable. Next takes it, what has happened and the topics there
// are, and gives the state after that, with an answer for every heartbeat:
//
//	heartbeats, expiries ─► members ─► group epoch, target ─► reconciliation ─► answers
//	                        topics ────────▲
//
// Everything that comes at once is one step, so that many members that join at
// once cost one new target.
//
// # How a partition moves
//
// When members, what they want, or their topics change, the group epoch rises
// and an assignor computes a new target. Members learn of it one by one, in the
// answer to their own heartbeat:
//
//	      target takes it        a heartbeat is without it
//	held ────────────────► revoked ───────────────────────► free
//	 ▲                        └── not in time: the member is removed ──► free
//	 └── target of another member, at one of its heartbeats ────────────┘
//
// A partition is held by at most one member, also while it is revoked. A Tenure
// has the group epochs at which it was given and revoked. A heartbeat gives up a
// partition only if its member epoch is not older than the revocation: one that
// was late on its way, sent before the member even got the partition, gives up
// nothing. And a commit is good for a partition if its member epoch is not older
// than the tenure (KIP-1251), however often the group's epoch rose since.
//
// Unlike in Kafka, a member need not give up what it must before it gets what is
// free, and a change of the group's epoch that does not concern a member changes
// nothing that is stored for it.
package group
