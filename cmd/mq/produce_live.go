package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/raftmq/mq/cmd/mq/internal/progress"
)

// liveInterval is how often the progress line changes.
const liveInterval = 200 * time.Millisecond

// live keeps a progress line at the end of a terminal.
type live struct {
	quit chan struct{} // closed by stop
	loop sync.WaitGroup
	once sync.Once
}

// startLive starts the line if stderr is a terminal that can rewrite one and
// nobody wants quiet.
func (p *program) startLive(quiet bool, sample func() progress.Sample) *live {
	l := &live{quit: make(chan struct{})}
	if !quiet && columns(p.errOut) > 0 && os.Getenv("TERM") != "dumb" {
		l.loop.Go(func() { l.run(p.errOut, sample) }) // ends with quit
	}
	return l
}

// stop clears the line. It may be called more than once.
func (l *live) stop() {
	l.once.Do(func() { close(l.quit) })
	l.loop.Wait()
}

func (l *live) run(w io.Writer, sample func() progress.Sample) {
	tick := time.NewTicker(liveInterval)
	defer tick.Stop()
	var meter progress.Meter
	meter.Add(sample())
	shown := 0
	show := func(line string, width int) {
		// A terminal that became narrower has wrapped what is shown.
		up := ""
		if rows := (shown - 1) / max(width, 1); shown > 0 && rows > 0 {
			up = fmt.Sprintf("\x1b[%dA", rows)
		}
		fmt.Fprint(w, up+"\r\x1b[J"+line)
		shown = len(line)
	}
	for {
		select {
		case <-l.quit:
			if shown > 0 {
				show("", columns(w))
			}
			return
		case <-tick.C:
			meter.Add(sample())
			// The last column stays free: writing there wraps some terminals.
			width := columns(w)
			show(meter.Line(width-1), width)
		}
	}
}
