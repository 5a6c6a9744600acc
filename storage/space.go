package storage

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/raftmq/mq/internal/mqerr"
)

// Space is what a Log and a KV have in common: the key space of one replica.
type Space struct {
	s    *Store
	id   ReplicaID
	kind kind

	// meta is the newest published state. What takes data away is published
	// before it is committed, what adds data after, so that a reader who finds
	// the state unchanged after it took its view of the database has all of it.
	meta atomic.Pointer[spaceMeta]

	durable atomic.Uint64 // meta.writes known to be flushed

	closed    atomic.Bool
	writing   sync.Mutex // held over each write; excludes shut
	restoring atomic.Bool
}

// openSpace reads the state of a key space and clears what a Restore that did
// not finish left behind.
func (s *Store) openSpace(sp *Space, id ReplicaID, k kind) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	live, stale, err := readMeta(s.db, id, false)
	if err != nil {
		return fmt.Errorf("storage: open %s %s: %w", k, id, err)
	}
	if live == nil {
		live = &spaceMeta{gen: 1, kind: k, State: freshState(), tailMax: NoTimestamp}
	}
	if live.kind != k {
		return fmt.Errorf("storage: open %s %s: it is a %s", k, id, live.kind)
	}
	for _, gen := range stale {
		if err := s.discard(k, id, gen); err != nil {
			return fmt.Errorf("storage: open %s %s: %w", k, id, err)
		}
	}
	sp.s, sp.id, sp.kind = s, id, k
	sp.meta.Store(live)
	sp.durable.Store(live.writes)
	return s.attach(sp)
}

// readMeta finds the generation in use, nil for a key space not written yet,
// and those that a Restore began to fill. With durable it sees only what has
// been flushed.
func readMeta(r pebble.Reader, id ReplicaID, durable bool) (live *spaceMeta, stale []uint64, err error) {
	it, err := r.NewIter(&pebble.IterOptions{
		LowerBound:                replicaKey(famMeta, id),
		UpperBound:                after(replicaKey(famMeta, id)),
		OnlyReadGuaranteedDurable: durable,
	})
	if err != nil {
		return nil, nil, engineError(err)
	}
	defer closeIter(it, &err)
	for ok := it.First(); ok; ok = it.Next() {
		if len(it.Key()) != spaceLen {
			return nil, nil, fmt.Errorf("state key of %d bytes: %w", len(it.Key()), mqerr.ErrCorruptLog)
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, nil, engineError(err)
		}
		m, err := decodeMeta(v)
		if err != nil {
			return nil, nil, err
		}
		m.gen = generationOf(it.Key())
		if m.restoring {
			stale = append(stale, m.gen)
			continue
		}
		live = &m
	}
	return live, stale, engineError(it.Error())
}

// deleteGeneration adds the deletion of one generation to b.
func deleteGeneration(b *pebble.Batch, k kind, id ReplicaID, gen uint64) error {
	for _, f := range k.families() {
		if err := b.DeleteRange(spaceKey(f, id, gen), after(spaceKey(f, id, gen)), nil); err != nil {
			return err
		}
	}
	return b.Delete(metaKey(id, gen), nil)
}

// discard deletes a generation that is not in use. The caller is inside the
// gate.
func (s *Store) discard(k kind, id ReplicaID, gen uint64) error {
	size, err := s.db.EstimateDiskUsage(spaceKey(famData, id, gen), after(spaceKey(famData, id, gen)))
	if err != nil {
		return engineError(err)
	}
	if err := s.writeBatch(func(b *pebble.Batch) error { return deleteGeneration(b, k, id, gen) }); err != nil {
		return err
	}
	s.noteDeleted(int64(size))
	return nil
}

// enter guards each use; it must be followed by s.gate.leave unless it fails.
func (sp *Space) enter() error {
	if err := sp.s.gate.enter(); err != nil {
		return err
	}
	if sp.closed.Load() {
		sp.s.gate.leave()
		return mqerr.ErrClosed
	}
	return nil
}

// ID names the key space.
func (sp *Space) ID() ReplicaID { return sp.id }

// Applied is the mark of the newest committed batch, 0 before the first.
func (sp *Space) Applied() uint64 { return sp.meta.Load().Applied }

// Close closes the handle. The data stays, and can be opened again. A second
// Close does nothing.
func (sp *Space) Close() error {
	sp.s.mu.Lock()
	if sp.s.mu.open[sp.id] == sp {
		delete(sp.s.mu.open, sp.id)
	}
	sp.s.mu.Unlock()
	sp.shut()
	return nil
}

func (sp *Space) shut() {
	sp.writing.Lock()
	defer sp.writing.Unlock()
	sp.closed.Store(true)
}

// Sync makes all committed batches durable. It returns at once when they are,
// because nothing was written or a flush came by itself; else it waits for a
// flush of the whole store, shared with whoever else waits for one. It waits
// as long as the engine cannot write; Store.Close ends the wait.
func (sp *Space) Sync() error {
	want := sp.meta.Load().writes
	if ok, err := sp.isDurable(want); ok || err != nil {
		return err
	}
	if err := sp.s.flush(); err != nil {
		return fmt.Errorf("storage: sync %s: %w", sp.id, err)
	}
	sp.sawDurable(want)
	return nil
}

// Unsynced reports whether Sync would have to flush. It costs a look-up, no
// write, so a caller can wait for the flushes that come by themselves.
func (sp *Space) Unsynced() (bool, error) {
	ok, err := sp.isDurable(sp.meta.Load().writes)
	return !ok, err
}

func (sp *Space) isDurable(writes uint64) (bool, error) {
	if err := sp.enter(); err != nil {
		return false, err
	}
	defer sp.s.gate.leave()
	if sp.durable.Load() >= writes {
		return true, nil
	}
	m, _, err := readMeta(sp.s.db, sp.id, true)
	if err != nil {
		return false, fmt.Errorf("storage: sync %s: %w", sp.id, err)
	}
	if m != nil {
		sp.sawDurable(m.writes)
	}
	return m != nil && m.writes >= writes, nil
}

func (sp *Space) sawDurable(writes uint64) {
	for {
		old := sp.durable.Load()
		if old >= writes || sp.durable.CompareAndSwap(old, writes) {
			return
		}
	}
}

// view gives the newest state and an iterator over a database that has all
// data of that state, maybe more. Bounds are unset. The caller closes the
// iterator inside the gate.
func (sp *Space) view() (*spaceMeta, *pebble.Iterator, error) {
	for {
		m := sp.meta.Load()
		it, err := sp.s.db.NewIter(nil)
		if err != nil {
			return nil, nil, engineError(err)
		}
		// Each turn means that a batch took data away meanwhile.
		if now := sp.meta.Load(); now.gen == m.gen && now.Start == m.Start {
			return m, it, nil
		}
		if err := it.Close(); err != nil {
			return nil, nil, engineError(err)
		}
	}
}

// scan calls fn for the pairs of a family whose key goes on with prefix. What
// fn gets is valid during the call.
func (sp *Space) scan(f family, prefix []byte, fn func(key, value []byte) error) (err error) {
	if err := sp.enter(); err != nil {
		return err
	}
	defer sp.s.gate.leave()
	m, it, err := sp.view()
	if err != nil {
		return err
	}
	defer closeIter(it, &err)
	lower := append(spaceKey(f, sp.id, m.gen), prefix...)
	it.SetBounds(lower, after(slices.Clone(lower)))
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return engineError(err)
		}
		if err := fn(it.Key(), v); err != nil {
			return err
		}
	}
	return engineError(it.Error())
}

// commit writes b and next, the state it leads to. base is the state the batch
// was built on; another one in force means that two writers meet.
func (sp *Space) commit(b *pebble.Batch, base, next *spaceMeta) error {
	return sp.write(func() error {
		if sp.meta.Load() != base {
			return fmt.Errorf("storage: %s %s: batch does not follow the newest one", sp.kind, sp.id)
		}
		if next.gen == base.gen && next.Applied < base.Applied {
			return fmt.Errorf("storage: %s %s: applied index goes back from %d to %d", sp.kind, sp.id, base.Applied, next.Applied)
		}
		next.writes = base.writes + 1
		if err := b.Set(metaKey(sp.id, next.gen), next.encode(), nil); err != nil {
			return engineError(err)
		}
		switch {
		case next.gen != base.gen:
			sp.meta.Store(next)
		case next.Start > base.Start:
			shrunk := *base
			shrunk.Start = min(next.Start, base.End)
			shrunk.Bytes = max(base.written-(next.written-next.Bytes), 0)
			sp.meta.Store(&shrunk)
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			return engineError(err)
		}
		sp.meta.Store(next)
		switch {
		case next.gen != base.gen:
			sp.s.noteDeleted(base.written - base.freedBytes)
		case next.freed > base.freed:
			sp.s.noteDeleted(next.freedBytes - base.freedBytes)
		}
		return nil
	})
}

// write runs fn, which writes to the key space, while the handle is open.
func (sp *Space) write(fn func() error) error {
	if err := sp.enter(); err != nil {
		return err
	}
	defer sp.s.gate.leave()
	sp.writing.Lock()
	defer sp.writing.Unlock()
	if sp.closed.Load() {
		return mqerr.ErrClosed
	}
	return fn()
}
