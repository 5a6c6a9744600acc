package storage_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

// While one writer appends, trims and restores, readers see whole batches in
// order with nothing missing above the start, and all calls end when the store
// is closed under them.
func TestReadersDuringCommitTrimRestoreClose(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, vfs.NewMem(), storage.Options{MemTableBytes: 128 << 10})
	l := mustOpenLog(t, s, crashLogs[0])

	// Each batch is one record of 8 to 4000 bytes which begins with its offset.
	appendSome := func() error {
		lb := l.NewBatch()
		for range 5 {
			e := lb.State().End
			b := make([]byte, 8+e%4000)
			binary.BigEndian.PutUint64(b, uint64(e))
			if err := lb.Append(b, e, e, e, e); err != nil {
				return err
			}
		}
		st := lb.State()
		lb.BeginEpoch(st.Epoch + 1)
		if st.End%3 == 0 {
			lb.Trim(st.End - 100)
		}
		return lb.Commit(l.Applied() + 1)
	}
	restoreSelf := func() error {
		sn, err := l.Snapshot()
		if err != nil {
			return err
		}
		defer func() { _ = sn.Close() }()
		var buf bytes.Buffer
		if err := sn.WriteTo(&buf, nil); err != nil {
			return err
		}
		return l.Restore(&buf, nil)
	}

	var reads atomic.Int64
	enough := make(chan struct{})
	read := func() error {
		offset := l.State().Start // the next to be trimmed
		buf, next, err := l.Read(nil, offset, 64<<10)
		if errors.Is(err, mqerr.ErrOffsetOutOfRange) {
			return nil // trimmed meanwhile
		}
		if err != nil {
			return err
		}
		for ; len(buf) > 0; offset++ {
			if got := int64(binary.BigEndian.Uint64(buf)); got != offset {
				return fmt.Errorf("record %d where %d should be", got, offset)
			}
			buf = buf[8+offset%4000:]
		}
		if offset != next {
			return fmt.Errorf("read up to %d, but next is %d", offset, next)
		}
		if reads.Add(1) == 1000 {
			close(enough)
		}
		return nil
	}
	look := func() error {
		st := l.State()
		const limit = 100 << 10
		p, err := l.TrimPoint(limit, -1)
		if err != nil {
			return err
		}
		if after := l.State(); p > after.Start {
			var kept int64 // with one batch more
			for o := p - 1; o < after.End; o++ {
				kept += 8 + o%4000
			}
			if kept <= limit {
				return fmt.Errorf("trim point %d of %d to %d is too far: %d bytes are allowed, one batch more makes %d", p, after.Start, after.End, limit, kept)
			}
		}
		if st.Epoch >= 0 {
			if _, _, err := l.EpochEnd(st.Epoch - 1); err != nil {
				return err
			}
		}
		if _, _, err := l.OffsetForTimestamp(st.MaxTimestamp-100, 0); err != nil {
			return err
		}
		sn, err := l.Snapshot()
		if err != nil {
			return err
		}
		return errors.Join(sn.WriteTo(io.Discard, nil), sn.Close())
	}

	var all sync.WaitGroup
	loop := func(name string, fns ...func() error) {
		all.Go(func() {
			for i := 0; ; i++ {
				if err := fns[i%len(fns)](); errors.Is(err, mqerr.ErrClosed) {
					return
				} else if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	must(t, appendSome())
	writer := make([]func() error, 0, 50)
	for range 49 {
		writer = append(writer, appendSome)
	}
	loop("writer", append(writer, restoreSelf)...)
	loop("reader", read)
	loop("reader", read)
	loop("looker", look)
	loop("syncer", l.Sync)
	<-enough
	must(t, s.Close())
	all.Wait()
}

// Many replicas that sync at once share flushes, and those with nothing new
// need none.
func TestSyncIsShared(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	var holding atomic.Bool
	begun := make(chan struct{}, 100)
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if holding.Load() && op.Kind == errorfs.OpCreate {
			begun <- struct{}{}
			<-hold
		}
		return nil
	}))
	s := mustOpen(t, fs, storage.Options{})
	var logs []*storage.Log
	for i := range 50 {
		l := mustOpenLog(t, s, storage.ReplicaID{Shard: 2000 + uint64(i), Replica: 1})
		appendTo(t, l, 1, 100)
		logs = append(logs, l)
	}
	before := s.Metrics().Flushes
	holding.Store(true)
	var all sync.WaitGroup
	for _, l := range logs {
		all.Go(func() {
			if err := l.Sync(); err != nil {
				t.Error(err)
			}
		})
	}
	<-begun // a flush is under way; the rest wait for it or the next
	holding.Store(false)
	close(hold)
	all.Wait()
	if n := s.Metrics().Flushes - before; n < 1 || n > 3 {
		t.Errorf("50 replicas took %d flushes", n)
	}
	before = s.Metrics().Flushes
	for _, l := range logs {
		must(t, l.Sync())
		if unsynced, err := l.Unsynced(); unsynced || err != nil {
			t.Errorf("after Sync: unsynced %v, %v", unsynced, err)
		}
	}
	if n := s.Metrics().Flushes - before; n != 0 {
		t.Errorf("%d flushes with nothing to flush", n)
	}
	must(t, s.Close())
}

// A flush that came for other reasons counts as well.
func TestSyncSeesFlushesOfOthers(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, vfs.NewMem(), storage.Options{MemTableBytes: 1 << 20})
	quiet, busy := mustOpenLog(t, s, crashLogs[0]), mustOpenLog(t, s, crashLogs[1])
	appendTo(t, quiet, 1, 100)
	if unsynced, err := quiet.Unsynced(); !unsynced || err != nil {
		t.Fatalf("fresh batch: unsynced %v, %v", unsynced, err)
	}
	appendTo(t, busy, 1, 100)
	must(t, busy.Sync())
	before := s.Metrics().Flushes
	if unsynced, err := quiet.Unsynced(); unsynced || err != nil {
		t.Errorf("after the flush for another: unsynced %v, %v", unsynced, err)
	}
	must(t, quiet.Sync())
	if n := s.Metrics().Flushes - before; n != 0 {
		t.Errorf("%d flushes for what was flushed", n)
	}
	must(t, s.Close())
}
