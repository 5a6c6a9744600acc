//go:build !race && cgo

package mq_test

const engineOnHeap = false
