package main

import (
	"errors"
	"testing"

	"github.com/raftmq/mq"
)

// scant takes so many bytes and then no more.
type scant struct{ room int }

var errNoRoom = errors.New("no room")

func (s *scant) Write(b []byte) (int, error) {
	n := min(len(b), s.room)
	s.room -= n
	if n < len(b) {
		return n, errNoRoom
	}
	return n, nil
}

type values struct{}

func (values) Append(dst []byte, r *mq.Record) []byte { return append(dst, r.Value...) }

// When a write fails half-way, the records that went out as a whole count, and
// those that were skipped between them; nothing behind the torn one does.
func TestHalfWrittenRecordIsNotHandled(t *testing.T) {
	t.Parallel()
	for room, want := range []struct{ handled, printed int }{
		0: {1, 0}, 1: {1, 0}, 2: {1, 0}, 3: {3, 1}, 4: {3, 1}, 5: {3, 1}, 6: {5, 2},
	} {
		w := recordWriter{w: &scant{room}, format: values{}}
		w.begin()
		for i, value := range []string{"", "abc", "", "def", ""} {
			r := &mq.Record{Offset: int64(i), Value: []byte(value)}
			if value == "" {
				w.skip(r)
			} else if err := w.add(r); err != nil {
				t.Fatal(err)
			}
		}
		err := w.flush()
		if failed := room < 6; errors.Is(err, errNoRoom) != failed {
			t.Errorf("room %d: error %v", room, err)
		}
		if len(w.done) != want.handled || w.count() != want.printed {
			t.Errorf("room %d: %d handled, %d printed, want %+v", room, len(w.done), w.count(), want)
		}
		for i, r := range w.done {
			if r.Offset != int64(i) {
				t.Errorf("room %d: handled %d is of offset %d", room, i, r.Offset)
			}
		}
	}
}
