package mq

import (
	"context"

	"github.com/raftmq/mq/internal/fetch"
)

// owned returns a ctx that also ends when the partition is taken away from the
// consumer, and what to call when it is not needed any more.
func owned(ctx context.Context, p *fetch.Partition) (context.Context, func()) {
	both, cancel := context.WithCancelCause(ctx)
	unbind := context.AfterFunc(p.Context(), func() { cancel(context.Cause(p.Context())) })
	return both, func() { unbind(); cancel(nil) }
}

// ownership keeps what owned made last, for records come in runs of one
// partition.
type ownership struct {
	part *fetch.Partition
	ctx  context.Context
	end  func()
}

func (o *ownership) of(ctx context.Context, p *fetch.Partition) context.Context {
	if o.part != p {
		o.release()
		o.part = p
		o.ctx, o.end = owned(ctx, p)
	}
	return o.ctx
}

func (o *ownership) release() {
	if o.end != nil {
		o.end()
	}
}
