package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/raftmq/mq/internal/mqerr"
)

// Options configure a store. The zero value is good for a broker on disk.
type Options struct {
	// FS is where the store lives. Default: the operating system's files.
	FS FS
	// Logger gets what the engine has to say, nearly all of it at debug level.
	// Default: silent.
	Logger *slog.Logger
	// CacheBytes is the size of the block cache. Default 32 MiB.
	CacheBytes int
	// MemTableBytes is how much is gathered in memory before it is written to
	// a file. Two of these are held in normal times and four when the disk
	// does not keep up, the cache giving way; then commits wait. Default 32 MiB.
	MemTableBytes int
	// DisableBlobs keeps batches inside the sorted tables instead of in files
	// of their own. Then more is written, and the space of what is deleted is
	// freed later. It can be changed from one opening to the next.
	DisableBlobs bool
	// OnFsync, if set, is told how long each fsync took. It is called on the
	// engine's goroutines and must not block.
	OnFsync func(time.Duration)
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 32 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 32 << 20
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.CacheBytes < 0 {
		errs = append(errs, fmt.Errorf("CacheBytes %d is negative: %w", o.CacheBytes, mqerr.ErrInvalidConfig))
	}
	if o.MemTableBytes < 64<<10 || o.MemTableBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("MemTableBytes %d is not between 64 KiB and 1 GiB: %w", o.MemTableBytes, mqerr.ErrInvalidConfig))
	}
	return errors.Join(errs...)
}

// ReplicaID names a key space. Once dropped, the pair must not be used again.
type ReplicaID struct {
	Shard, Replica uint64
}

// String gives "shard/replica".
func (id ReplicaID) String() string { return fmt.Sprintf("%d/%d", id.Shard, id.Replica) }

// Store is the database of one broker. Its methods and those of all its
// handles are safe for concurrent use, except that each Log and KV takes
// batches from one writer at a time. After Close everything answers
// mqerr.ErrClosed.
type Store struct {
	db    *pebble.DB
	gate  gate
	stats engineStats
	fs    FS
	dir   string
	log   *slog.Logger

	flusher      flusher
	reclaim      reclaimer
	reclaimFloor int64
	blobs        bool

	closing context.Context // ends when Close begins; ends waits and passes
	close   context.CancelFunc

	closeOnce sync.Once
	closeErr  error

	mu struct {
		sync.Mutex
		open      map[ReplicaID]*Space // the handle in use of each open key space
		snapshots map[*Snapshot]struct{}
	}
}

// Open opens the store in dir and creates it if there is none. Damage that can
// be seen without reading all data is found here: mqerr.ErrCorruptLog with the
// name of the file.
func Open(dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	s := &Store{
		gate: newGate(), fs: o.FS, dir: dir, log: o.Logger,
		reclaimFloor: 2 * int64(o.MemTableBytes), blobs: !o.DisableBlobs,
	}
	s.closing, s.close = context.WithCancel(context.Background())
	s.mu.open = make(map[ReplicaID]*Space)
	s.mu.snapshots = make(map[*Snapshot]struct{})
	exists, err := checkManifest(o.FS, dir)
	if err == nil {
		s.db, err = openEngine(dir, exists, o, &s.stats)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("storage: open %s: %w", dir, err)
	}
	return s, nil
}

// Close makes everything durable and closes the store and all its handles. It
// waits for calls under way. A second Close returns what the first did.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.close()
		s.gate.close()
		s.reclaim.passes.Wait()
		s.mu.Lock()
		snapshots := s.mu.snapshots
		s.mu.snapshots = nil
		s.mu.open = nil
		s.mu.Unlock()
		var errs []error
		for sn := range snapshots {
			errs = append(errs, sn.release())
		}
		errs = append(errs, s.flushForClose(), engineError(s.db.Close()))
		err := errors.Join(errs...)
		if err == nil {
			err = noteClean(s.fs, s.dir)
		}
		if err != nil {
			s.closeErr = fmt.Errorf("storage: close %s: %w", s.dir, err)
		}
	})
	return s.closeErr
}

// Replicas lists the key spaces that hold anything, in order.
func (s *Store) Replicas() (ids []ReplicaID, err error) {
	if err := s.gate.enter(); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: []byte{byte(famMeta), '/'},
		UpperBound: []byte{byte(famMeta), '/' + 1},
	})
	if err != nil {
		return nil, engineError(err)
	}
	defer closeIter(it, &err)
	for ok := it.First(); ok; {
		id, ok2 := replicaOf(it.Key())
		if !ok2 {
			return nil, fmt.Errorf("storage: state key of %d bytes: %w", len(it.Key()), mqerr.ErrCorruptLog)
		}
		ids = append(ids, id)
		ok = it.SeekGE(after(replicaKey(famMeta, id)))
	}
	return ids, nil
}

// Drop deletes a key space for good: when it returns the deletion is durable.
// Its handle, if open, is closed; its disk space is freed in the background.
// Dropping what is not there does nothing.
func (s *Store) Drop(id ReplicaID) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	s.detach(id, nil)
	size, err := s.sizeOf(id)
	if err != nil {
		return fmt.Errorf("storage: drop %s: %w", id, err)
	}
	err = s.writeBatch(func(b *pebble.Batch) error {
		for _, f := range append(kindLog.families(), famPair, famMeta) {
			if err := b.DeleteRange(replicaKey(f, id), after(replicaKey(f, id)), nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.noteDeleted(size)
		err = s.flush()
	}
	if err != nil {
		return fmt.Errorf("storage: drop %s: %w", id, err)
	}
	return nil
}

// writeBatch commits what fn puts into a batch. The caller is inside the gate.
func (s *Store) writeBatch(fn func(*pebble.Batch) error) (err error) {
	b := s.db.NewBatch()
	defer func() { err = engineError(errors.Join(err, b.Close())) }()
	if err := fn(b); err != nil {
		return err
	}
	return b.Commit(pebble.NoSync)
}

// attach makes sp the handle in use of its key space and closes the one before.
func (s *Store) attach(sp *Space) error {
	s.detach(sp.id, sp)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.open == nil {
		return mqerr.ErrClosed
	}
	s.mu.open[sp.id] = sp
	return nil
}

// detach closes the handle of a key space, except keep.
func (s *Store) detach(id ReplicaID, keep *Space) {
	s.mu.Lock()
	sp := s.mu.open[id]
	if sp == nil || sp == keep {
		s.mu.Unlock()
		return
	}
	delete(s.mu.open, id)
	s.mu.Unlock()
	sp.shut()
}
