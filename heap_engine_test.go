//go:build race || !cgo

package mq_test

// engineOnHeap says whether the store's cache and memtables are seen by
// runtime.ReadMemStats: with cgo they are not, except under the race detector.
const engineOnHeap = true
