package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftmq/mq/cmd/mq/internal/progress"
)

// explainAfter is how long the end after a signal takes in silence.
const explainAfter = 500 * time.Millisecond

// explainEnd says what it is that keeps a command from ending when ctx has ended
// and stop is not called soon.
func (p *program) explainEnd(ctx context.Context, what func() string) (stop func()) {
	over := make(chan struct{})
	forget := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(explainAfter):
			p.say("%s; a second signal gives up", what())
		case <-over:
		}
	})
	return func() {
		forget()
		close(over)
	}
}

// waitingFor says how many records have no answer.
func waitingFor(n int) string {
	return fmt.Sprintf("waiting for %s to be acknowledged", count(n, "record"))
}

// liveInterval is how often the progress line changes.
const liveInterval = 200 * time.Millisecond

// live keeps a progress line at the end of a terminal.
type live struct {
	quit chan struct{} // closed by stop
	loop sync.WaitGroup
	once sync.Once
	note atomic.Pointer[string] // what the line begins with
	on   bool                   // there is a line
}

// startLive starts the line if stderr is a terminal that can rewrite one and
// nobody wants quiet.
func (p *program) startLive(quiet bool, sample func() progress.Sample) *live {
	l := &live{quit: make(chan struct{})}
	l.say("")
	if !quiet && columns(p.errOut) > 0 && os.Getenv("TERM") != "dumb" {
		l.on = true
		l.loop.Go(func() { l.run(p.errOut, sample) }) // ends with quit
	}
	return l
}

// say puts a note in front of the line.
func (l *live) say(note string) { l.note.Store(&note) }

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
		rows := max(shown-1, 0) / max(width, 1)
		fmt.Fprint(w, "\r\x1b[K"+strings.Repeat("\x1b[A\x1b[K", rows)+line)
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
			note := *l.note.Load()
			show(note+meter.Line(width-1-len(note)), width)
		}
	}
}
