package cluster

import (
	"sync"
	"sync/atomic"
)

// budget bounds bytes that are on their way. One request larger than the limit
// is let through when nothing else is.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int) bool {
	used := b.used.Add(int64(n))
	if used > b.limit && used != int64(n) {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

func (b *budget) give(n int) { b.used.Add(-int64(n)) }

// maxPooledBuffer keeps a rare huge command from staying in the pool.
const maxPooledBuffer = 1 << 20

// bufferPool reuses the buffers commands are built in.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) get() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

func (p *bufferPool) put(b *[]byte) {
	if cap(*b) <= maxPooledBuffer {
		p.pool.Put(b)
	}
}
