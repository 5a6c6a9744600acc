// Package storage keeps a broker's data: one pebble database shared by all
// replicas that live on the broker, each in a key space of its own.
//
// A partition's replica has a Log: record batches by offset, with a sparse
// index by time and size, the table of epochs and the window of producers. A
// metadata or group replica has a KV: ordered keys and values. Both take their
// changes in batches that carry an opaque, growing mark, the applied index, and
// both are written without a write-ahead log: what the caller replays from its
// own log after a crash is everything behind Applied. Sync makes a replica's
// batches durable. After a crash a key space is exactly what a prefix of its
// committed batches made it.
//
// # Keys
//
// Fixed-width big-endian numbers behind a two-byte family; P stands for shard,
// replica and generation, 8 bytes each.
//
//	m/P                         state of the key space: applied index, offsets, ...
//	d/P/lastOffset              one record batch behind a small header
//	t/P/maxTimestamp/lastOffset mark of the sparse index, about one per MiB
//	p/P/producerID/slot         one remembered batch of a producer
//	e/P/epoch                   offset at which the epoch began
//	k/P/key                     a pair of a KV
//
// The families c, g and x are reserved for compaction, groups and transactions.
//
// A generation is one life of a key space. Restore fills the next one beside
// the one in use and then, in one batch, makes it the one in use.
//
// The package is internal to mq in spirit: its API may change with any release.
package storage

// FormatVersion is the version of everything this package writes to disk: keys,
// values, the FORMAT file and snapshot streams. It only grows; testdata holds
// files of each version.
const FormatVersion = 1
