package mq

import (
	"sync/atomic"

	"github.com/raftmq/mq/internal/produce"
)

// Partitioner chooses the partition of a record among n, which are numbered
// from 0. It sees the record as it was handed to the producer, Partition included.
// It may be called concurrently and must not keep the record. A
// negative answer means that any will do: the producer then sticks to one
// partition until its batch is on its way. An answer of n or more fails the
// record with ErrUnknownTopicOrPartition.
//
// To keep the order of records with equal keys, the answer must depend on the
// key alone.
type Partitioner interface {
	Partition(r *Record, n int) int
}

// HashKeys is the default Partitioner: the hash of the key that Kafka's clients
// use, so that both put a key into the same partition; no preference for a
// record without key. KIP-480.
func HashKeys() Partitioner { return hashKeys{} }

// FixedPartition sends everything to one partition.
func FixedPartition(partition int32) Partitioner { return fixed(partition) }

// RoundRobin sends each record to the next partition, whatever its key.
func RoundRobin() Partitioner { return &roundRobin{} }

type hashKeys struct{}

func (hashKeys) Partition(r *Record, n int) int {
	if r.Key == nil {
		return -1
	}
	return produce.KeyPartition(r.Key, n)
}

type fixed int32

func (f fixed) Partition(*Record, int) int { return int(f) }

type roundRobin struct{ next atomic.Uint64 }

func (p *roundRobin) Partition(_ *Record, n int) int { return int((p.next.Add(1) - 1) % uint64(n)) }
