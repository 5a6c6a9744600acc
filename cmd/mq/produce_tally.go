package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/progress"
)

// tally counts what became of records. Its methods may be called from any goroutine.
type tally struct {
	broken chan struct{} // closed on an error that is not of one record alone

	mu         sync.Mutex
	read       int
	ok, failed int
	bytes      int64 // of those that are ok
	first      error // and its record's place
	at         place
}

func newTally() *tally { return &tally{broken: make(chan struct{})} }

func (t *tally) add() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read++
}

func (t *tally) done(at place, r *mq.Record, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.ok++
		t.bytes += int64(len(r.Key) + len(r.Value))
		for _, h := range r.Headers {
			t.bytes += int64(len(h.Key) + len(h.Value))
		}
		return
	case errors.Is(err, mq.ErrClosed):
		return // it came too late and counts as not read
	}
	t.failed++
	if t.first == nil {
		t.first, t.at = err, at
	}
	if !errors.Is(err, mq.ErrRecordTooLarge) && !t.hopeless() {
		close(t.broken)
	}
}

func (t *tally) hopeless() bool {
	select {
	case <-t.broken:
		return true
	default:
		return false
	}
}

// waiting tells what there is no answer to yet.
func (t *tally) waiting() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return waitingFor(t.read - t.ok - t.failed)
}

// sample is how far the work has come, as far as the size of the input is known.
func (t *tally) sample(in *input) progress.Sample {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := progress.Sample{At: time.Now(), Records: int64(t.ok), Bytes: t.bytes}
	if in.bytes > 0 && t.read > 0 {
		// Part of what was read is still on its way.
		s.Part = min(1, float64(in.got.Load())/float64(in.bytes)) * float64(t.ok+t.failed) / float64(t.read)
	}
	return s
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sizeLocked()
}

func (t *tally) sizeLocked() string {
	return fmt.Sprintf("%s (%s)", progress.Records(int64(t.ok)), progress.Bytes(t.bytes))
}

// outcome is what was not sent, or not even read.
func (t *tally) outcome(topic string, readErr error, interrupted bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var err error
	if t.failed > 0 {
		err = fmt.Errorf("%d of %s %s not sent; the first is %v: %w", t.failed, count(t.ok+t.failed, "record"), were(t.failed), t.at, t.first)
		if errors.Is(t.first, mq.ErrRecordTooLarge) {
			err = fmt.Errorf("%w (a topic takes more with: mq topic alter %s --set max.message.bytes=N, up to %d)", err, topic, maxRecordBytes)
		}
	}
	switch {
	case readErr != nil && err == nil && t.ok > 0:
		err = fmt.Errorf("%w; sent before that: %s", readErr, t.sizeLocked())
	case readErr != nil:
		err = errors.Join(err, readErr)
	case err == nil && interrupted:
		return &exitError{exitInterrupted, fmt.Errorf("interrupted: sent %s; the rest of the input was not read", t.sizeLocked())}
	}
	if err != nil && t.ok > 0 {
		return &exitError{exitPartly, err}
	}
	return err
}
