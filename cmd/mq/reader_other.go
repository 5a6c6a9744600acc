//go:build !unix

package main

import (
	"context"
	"io"
)

// untilReaderGone can't tell here; the next write will.
func untilReaderGone(ctx context.Context, _ io.Writer) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}

// leadsNowhere can't tell here.
func leadsNowhere(io.Writer) bool { return false }
