package storage

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/raftmq/mq/internal/mqerr"
)

// KV is the key space of one metadata or group replica: ordered keys and
// values. Readers may be many, the writer is one.
type KV struct {
	Space
}

// OpenKV opens the pairs of a replica; one never written is empty. A handle
// opened before for the same replica is closed.
func (s *Store) OpenKV(id ReplicaID) (*KV, error) {
	kv := &KV{}
	if err := s.openSpace(&kv.Space, id, kindKV); err != nil {
		return nil, err
	}
	return kv, nil
}

// Get returns a copy of a key's value; ok is false when there is none.
func (kv *KV) Get(key []byte) (value []byte, ok bool, err error) {
	if err := kv.enter(); err != nil {
		return nil, false, err
	}
	defer kv.s.gate.leave()
	for {
		gen := kv.meta.Load().gen
		v, closer, err := kv.s.db.Get(pairKey(kv.id, gen, key))
		switch {
		case err == nil:
			value = slices.Clone(v)
			return value, true, engineError(closer.Close())
		case !errors.Is(err, pebble.ErrNotFound):
			return nil, false, engineError(err)
		case kv.meta.Load().gen == gen: // else a Restore came between
			return nil, false, nil
		}
	}
}

// Scan calls fn in key order for all pairs whose key begins with prefix, as
// they were when it began, and stops with the first error of fn. The slices
// are valid during the call.
func (kv *KV) Scan(prefix []byte, fn func(key, value []byte) error) error {
	return kv.scan(famPair, prefix, func(k, v []byte) error { return fn(k[spaceLen:], v) })
}

// KVBatch gathers changes of a KV that take effect together with Commit, or
// not at all with Close. It is for one goroutine. The first change that fails
// makes Commit fail.
type KVBatch struct {
	kv   *KV
	b    *pebble.Batch
	base *spaceMeta
	err  error
}

// NewBatch starts a batch on top of the newest committed one.
func (kv *KV) NewBatch() *KVBatch {
	kb := &KVBatch{kv: kv, base: kv.meta.Load()}
	if kb.err = kv.enter(); kb.err == nil {
		defer kv.s.gate.leave()
		kb.b = kv.s.db.NewBatch()
	}
	return kb
}

// Set gives key a value. Both are copied; together they must not exceed 64 MiB.
func (kb *KVBatch) Set(key, value []byte) {
	if kb.err == nil && len(key)+len(value) > maxValue {
		kb.fail(fmt.Errorf("pair of %d bytes: %w", len(key)+len(value), mqerr.ErrRecordTooLarge))
	}
	if kb.err == nil {
		kb.fail(kb.b.Set(pairKey(kb.kv.id, kb.base.gen, key), value, nil))
	}
}

// Delete removes key, if it is there.
func (kb *KVBatch) Delete(key []byte) {
	if kb.err == nil {
		kb.fail(kb.b.Delete(pairKey(kb.kv.id, kb.base.gen, key), nil))
	}
}

// Commit writes the batch, and applied as the space's new mark, in one step.
// It is durable after the next Sync. The batch is used up, whatever the
// result. After an error the KV is unfit for further writing until the store
// is opened anew.
func (kb *KVBatch) Commit(applied uint64) error {
	if kb.err == nil {
		next := *kb.base
		next.Applied = applied
		kb.err = kb.kv.commit(kb.b, kb.base, &next)
	}
	err := kb.err
	kb.Close()
	return err
}

// Close drops the batch. After Commit it does nothing.
func (kb *KVBatch) Close() {
	if kb.b != nil {
		_ = kb.b.Close()
		kb.b = nil
	}
	if kb.err == nil {
		kb.err = errBatchUsed
	}
}

func (kb *KVBatch) fail(err error) {
	if err != nil && kb.err == nil {
		kb.err = fmt.Errorf("storage: key-value space %s: %w", kb.kv.id, engineError(err))
	}
}
