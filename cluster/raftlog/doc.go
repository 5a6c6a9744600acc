// Package raftlog is the raft log of a broker: one append-only log for the
// replicas of all shards, behind the library's seam for log stores.
//
// # What is promised
//
// When SaveRaftState returns, terms, votes, entries and snapshot records are on
// stable storage; one sync serves all callers that waited. A commit index that
// moved alone costs neither a write nor a sync, and neither do removed entries:
// after a crash the replica learns the first again and the second are only in
// the way. A lone proposal to a shard with one voter costs one sync.
//
// # On disk
//
//	raftlog/0000000007.seg   header | checkpoint | group | group | ... | seal
//	raftlog/0000000008.seg   header | checkpoint | group | ...          (the tail)
//	raftlog/0000000009.seg   header                                     (prepared)
//
// A segment gets its size, header and name before it is used; retired ones are
// used again. It begins with a checkpoint, which is everything about all
// replicas but their entries, where these are, and a list of the segments they
// are in. So opening the log reads one segment however many there are; what older
// ones hold is looked up when somebody asks for it. A segment goes when no
// checkpoint lists it any more, and where a few entries keep many bytes alive they
// are copied to the end of the log. See segment, group and frame for the layouts.
//
// # Damage
//
// Every frame and every group has a CRC-32C, and each group carries the
// checksum of the one before it and the offset below which the segment was known
// to be on stable storage. When the log is opened, what follows the last good
// group is a torn tail, and cut off, only if no later group vouches for it.
// Otherwise, and for a segment that is missing or cut short, opening fails with a
// *DamageError that names file and offset. What is in an older segment, even that
// it is another one under a wrong name, is checked when its entries are asked for.
//
// What can't be told: the last group before a crash has nobody behind it to
// vouch for it. Damage that hits it and nothing else looks like a write that the
// crash cut off. A group is vouched for by the next one; an idle log gets one
// after FlushInterval if a commit index moved, and Close adds one.
// Equally unseen is a directory, or the newest segment, that was put back to an
// earlier time, and two faults that hide each other: a seal and the checkpoint of
// the segment behind it.
//
// # Failures
//
// A failed write or sync is never tried again: nobody knows what is on the disk.
// Nothing is acknowledged from then on. The library would answer an error by a
// panic on one of its goroutines, which ends a process that is only our host. So
// with OnFailure set, the log calls it once, and SaveRaftState and
// IterateEntries do not return. The owner stops taking requests, cuts the
// network, and then has two ways: leave the NodeHost as it is until the process
// ends, or end it:
//
//	log.Release()    // the calls return with the error
//	nodeHost.Close()
//
// The second needs a NodeHost whose Expert.FS is a *vfs.ErrorFS (vfs.Wrap with
// an injector that never injects): only then the library ends a worker that
// panics instead of the process. Options.FS gives the log the file system
// without that wrapper.
//
// A full disk is no failure as long as only the next segment has no room: that
// is made ahead of time and tried again, Stats().DiskFull says so, and commits
// wait once the present segment is full too.
//
// # In memory
//
// On a file system in memory the same code runs; a sync costs nothing there. The
// segments are the entries' second home then: MemoryBudget should be negative,
// and SegmentBytes and MaxBytes as small as the whole may be.
package raftlog
