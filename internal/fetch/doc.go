// Package fetch keeps the state of a consumer's reading: where each partition
// stands, what was fetched and not yet handed out, under one budget of bytes,
// and up to where the records are finished. It does no I/O, starts no
// goroutine and knows no clock, so all of its rules can be tested alone.
//
// Which partitions there are, metadata tells, or, for a member of a balanced
// group, its coordinator (Assign, Drain, Remove).
//
// A Set is shared by three kinds of callers. The metadata loop tells it where
// partitions are led (Sync). One loop per broker asks what to look up or fetch
// there (Lookups, StartFetch) and brings the answers (Found, EndFetch). One
// reader takes batches and says which records it has handed out and finished
// (Take, Deliver, Finish). They may be finished in any order; what is committed
// ends before the first one that is not. A partition goes through these states:
//
//	            no offset committed           offset found
//	wantCommitted ───────────────► wantOffset ────────────► reading ─────► failed
//	      │    offset committed                                ▲  what no retry
//	      └────────────────────────────────────────────────────┤  can cure    │
//	                                                           └───── Seek ◄──┘
//
// Trouble that may pass, such as a lost leader, takes a partition's leader
// away until the next Sync; so whatever goes wrong, fresh metadata comes
// before the next attempt, and the metadata loop's back-off is the only one.
package fetch
