package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/storage"
)

const (
	maxFetchBytes = 32 << 20 // of one answer, whatever the client asks
	maxFetchWait  = time.Minute
	maxFetchParts = 10000
)

// Fetch implements api.Broker. Everything applied behind the leader barrier is
// committed, and so is what a follower has applied, so the local store is all it
// reads.
func (n *Node) Fetch(ctx context.Context, req *api.FetchRequest) (*api.FetchResponse, error) {
	if len(req.Partitions) > maxFetchParts {
		return nil, fmt.Errorf("%w: %d partitions in one fetch, at most %d", mqerr.ErrInvalidRequest, len(req.Partitions), maxFetchParts)
	}
	// Wait on all partitions at once, without a goroutine for any.
	wake := make(chan struct{}, 1)
	var watched []*readers
	defer func() {
		for _, w := range watched {
			w.remove(wake)
		}
	}()
	var deadline <-chan time.Time
	for first := true; ; first = false {
		changed := n.changed.wait()
		grown := n.appendedTo(req)
		resp, size, urgent := n.fetchOnce(req)
		if urgent || size > 0 && size >= req.MinBytes || req.MaxWait <= 0 {
			n.countFetched(req, resp)
			return resp, nil
		}
		if first {
			watched = n.watch(req, wake)
			timer := time.NewTimer(min(req.MaxWait, maxFetchWait))
			defer timer.Stop()
			deadline = timer.C
			continue // what came before the watch
		}
		// Reading again pays only when enough has come.
		for again := false; !again; {
			select {
			case <-wake:
				again = int64(size)+n.appendedTo(req)-grown >= int64(req.MinBytes)
			case <-changed:
				again = true
			case <-deadline:
				resp, _, _ := n.fetchOnce(req)
				n.countFetched(req, resp)
				return resp, nil
			case <-ctx.Done():
				return nil, fmt.Errorf("fetch: %w", context.Cause(ctx))
			case <-n.closing.Done():
				return nil, fmt.Errorf("fetch: %w: the broker is stopping", mqerr.ErrLeaderNotAvailable)
			}
		}
	}
}

// appendedTo sums the bytes ever appended to the partitions of a request, to
// see how much they grew.
func (n *Node) appendedTo(req *api.FetchRequest) (bytes int64) {
	for i := range req.Partitions {
		if f, err := n.findToRead(req, req.Partitions[i].TopicPartition); err == nil {
			bytes += f.part.traffic.bytesIn.Load()
		}
	}
	return bytes
}

func (n *Node) watch(req *api.FetchRequest, wake chan struct{}) []*readers {
	var out []*readers
	for i := range req.Partitions {
		if f, err := n.findToRead(req, req.Partitions[i].TopicPartition); err == nil {
			f.part.readers.add(wake)
			out = append(out, &f.part.readers)
		}
	}
	return out
}

// fetchOnce reads what is there. urgent says that something must be told now.
func (n *Node) fetchOnce(req *api.FetchRequest) (resp *api.FetchResponse, size int, urgent bool) {
	resp = &api.FetchResponse{}
	room := min(maxFetchBytes, req.MaxBytes)
	if req.MaxBytes <= 0 {
		room = maxFetchBytes
	}
	for i := range req.Partitions {
		p := &req.Partitions[i]
		res, full := n.fetchPartition(req, p, room, size == 0)
		if full {
			room = 0 // reading on to find what fits would read much and give little
		}
		if res.Err != nil {
			urgent = true
		}
		if res.Err != nil || len(res.Batches) > 0 || len(req.Partitions) == 1 {
			resp.Partitions = append(resp.Partitions, res)
		}
		size += len(res.Batches)
		room -= len(res.Batches)
	}
	return resp, size, urgent
}

// fetchPartition reads one partition. first lets a batch larger than the room
// through, so that no reader sticks. full says that there was one it did not.
func (n *Node) fetchPartition(req *api.FetchRequest, p *api.FetchPartition, room int, first bool) (res api.FetchResult, full bool) {
	res.TopicPartition = p.TopicPartition
	f, err := n.findToRead(req, p.TopicPartition)
	if err != nil {
		res.Err = err
		return res, false
	}
	res.TopicID = f.topic.ID
	st := f.part.log.State()
	res.HighWatermark, res.LastStableOffset, res.LogStart, res.LeaderEpoch = st.End, st.End, st.Start, f.epoch
	if f.led == nil && p.LeaderEpoch != api.NoEpoch && p.LeaderEpoch < f.epoch {
		res.Err = fmt.Errorf("%s: %w: %d, now %d", f.rep.name, mqerr.ErrFencedLeaderEpoch, p.LeaderEpoch, f.epoch)
		return res, false
	}
	if p.MaxBytes > 0 {
		room = min(room, p.MaxBytes)
	}
	if p.Offset == st.End || room <= 0 && !first {
		return res, false
	}
	room = max(room, 1)
	batches, _, err := f.part.log.Read(make([]byte, 0, min(room, sizeFrom(st, p.Offset))), p.Offset, room)
	switch {
	case errors.Is(err, mqerr.ErrOffsetOutOfRange) && f.led != nil:
		res.Err = f.led // it may only lag behind
	case errors.Is(err, mqerr.ErrOffsetOutOfRange):
		st = f.part.log.State()
		res.Err = &mqerr.Detail{
			Err:      fmt.Errorf("%s: %w: %d, log is %d to %d", f.rep.name, mqerr.ErrOffsetOutOfRange, p.Offset, st.Start, st.End),
			LogStart: st.Start, HighWatermark: st.End,
		}
	case errors.Is(err, mqerr.ErrClosed):
		res.Err = fmt.Errorf("%s: %w", f.rep.name, mqerr.ErrLeaderNotAvailable)
	case err != nil:
		res.Err = fmt.Errorf("%s offset %d: %w", f.rep.name, p.Offset, f.rep.readError(err))
	case !first && len(batches) > room:
		full = true // it waits for its turn
	default:
		res.Batches = batches
		res.HighWatermark = max(res.HighWatermark, f.part.log.State().End)
		res.LastStableOffset = res.HighWatermark
	}
	return res, full
}

// findToRead finds a partition that this broker leads or, if the request allows it,
// follows. A follower does so only as long as it hears of a leader and takes what
// comes from there: one that is cut off would let its readers wait for ever.
func (n *Node) findToRead(req *api.FetchRequest, tp api.TopicPartition) (found, error) {
	f, err := n.findReplica(tp)
	if err != nil {
		return found{}, err
	}
	if f.epoch, err = f.rep.epochServed(); err == nil {
		return f, nil
	}
	l := f.rep.lead.Load()
	if !req.Follower || !errors.Is(err, mqerr.ErrNotLeader) || l == nil || !f.rep.shard.Load().votes(n.cfg.BrokerID) || n.fenced() != nil {
		return found{}, err
	}
	f.epoch, f.led = l.epoch(), err
	return f, nil
}

// sizeFrom estimates the bytes from an offset to the end of a log, so that a
// buffer need not grow while it is filled.
func sizeFrom(st storage.State, offset int64) int {
	if offset < st.Start || offset >= st.End {
		return 0
	}
	average := float64(st.Bytes) / float64(st.End-st.Start)
	return int(average*float64(st.End-offset)*1.1) + 1<<10
}

// countFetched counts records by the batches' headers.
func (n *Node) countFetched(req *api.FetchRequest, resp *api.FetchResponse) {
	for i := range resp.Partitions {
		p := &resp.Partitions[i]
		if len(p.Batches) == 0 {
			continue
		}
		var records int64
		for rest := p.Batches; len(rest) > 0; {
			info, err := record.Parse(rest)
			if err != nil {
				break
			}
			records += int64(info.Count)
			rest = rest[info.Size:]
		}
		if f, err := n.findToRead(req, p.TopicPartition); err == nil {
			f.part.traffic.fetched(records, len(p.Batches))
		}
	}
}
