package fetch

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

// splitLocked queues the batches of an answer, checked, and moves fetchAt
// behind them. On an error the batches before the broken one are queued.
func (s *Set) splitLocked(p *Partition, r *api.FetchResult) error {
	hidden := newAborted(s.cfg.Isolation, r.Aborted)
	before := p.fetchAt
	for rest := r.Batches; len(rest) > 0; {
		info, err := record.Parse(rest)
		if err != nil {
			return err
		}
		data := rest[:info.Size:info.Size]
		rest = rest[info.Size:]
		if err := record.CheckCRC(data); err != nil {
			return err
		}
		last := info.LastOffset()
		if info.LastOffsetDelta < 0 || last < info.BaseOffset || info.BaseOffset < 0 {
			return fmt.Errorf("%w: base offset %d, last offset delta %d", mqerr.ErrCorruptBatch, info.BaseOffset, info.LastOffsetDelta)
		}
		hide := hidden.hides(info)
		if last < p.fetchAt {
			continue // the broker went too far back, which is its right
		}
		b := batch{data: data, next: last + 1, epoch: info.LeaderEpoch}
		if hide {
			b.data = nil
		}
		p.fetchAt = b.next
		s.enqueueLocked(p, b)
	}
	if len(r.Batches) > 0 && p.fetchAt == before {
		return fmt.Errorf("%w: the answer ends before the offset asked for", mqerr.ErrCorruptBatch)
	}
	return nil
}

// aborted follows the transactions through an answer, as KIP-98 tells.
type aborted struct {
	ahead []api.AbortedTxn // by first offset
	now   map[int64]bool   // producers inside an aborted transaction; nil: all is shown
}

func newAborted(isolation int8, txns []api.AbortedTxn) *aborted {
	if isolation != api.ReadCommitted {
		return &aborted{}
	}
	ahead := slices.Clone(txns)
	slices.SortFunc(ahead, func(a, b api.AbortedTxn) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	return &aborted{ahead: ahead, now: make(map[int64]bool)}
}

// hides reports whether a batch, next in order, is not for the reader.
func (a *aborted) hides(info record.Info) bool {
	for len(a.ahead) > 0 && a.ahead[0].FirstOffset <= info.LastOffset() {
		a.now[a.ahead[0].ProducerID] = true
		a.ahead = a.ahead[1:]
	}
	if info.Control {
		delete(a.now, info.ProducerID) // whichever way, its transaction ends here
		return true
	}
	return info.Transactional && a.now[info.ProducerID]
}
