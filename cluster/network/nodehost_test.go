package network_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/logger"
	sm "github.com/lni/dragonboat/v4/statemachine"
	"github.com/lni/vfs"

	"github.com/raftmq/mq/cluster/network"
	"github.com/raftmq/mq/cluster/raftlog"
)

func init() {
	log.SetOutput(io.Discard) // the library's store writes there
	for _, name := range []string{"dragonboat", "raft", "rsm", "transport", "logdb", "config", "settings", "server", "registry", "raftpb", "pebblekv"} {
		logger.GetLogger(name).SetLevel(logger.CRITICAL)
	}
}

const shard = 5

// set is a state machine that holds the numbers it was told. It keeps them in
// memory and tells the library that they are on disk, because only snapshots of
// such machines are streamed.
type set struct {
	mu       sync.Mutex
	applied  uint64
	numbers  map[uint64]bool
	restored int // from snapshots
}

func (s *set) Open(<-chan struct{}) (uint64, error) { return 0, nil }

func (s *set) Update(entries []sm.Entry) ([]sm.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		s.applied = e.Index
		s.numbers[binary.LittleEndian.Uint64(e.Cmd)] = true
	}
	return entries, nil
}

func (s *set) Lookup(any) (any, error)       { return nil, nil }
func (s *set) Sync() error                   { return nil }
func (s *set) PrepareSnapshot() (any, error) { return nil, nil }
func (s *set) Close() error                  { return nil }

// SaveSnapshot writes more than two chunks.
func (s *set) SaveSnapshot(_ any, w io.Writer, _ <-chan struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := append([]uint64{s.applied}, slices.Sorted(maps.Keys(s.numbers))...)
	return errors.Join(
		binary.Write(w, binary.LittleEndian, uint64(len(v))),
		binary.Write(w, binary.LittleEndian, v),
		binary.Write(w, binary.LittleEndian, pattern(s.applied, snapshotSize)))
}

const snapshotSize = 5 << 20

func (s *set) RecoverFromSnapshot(r io.Reader, _ <-chan struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n uint64
	if err := binary.Read(r, binary.LittleEndian, &n); err != nil {
		return err
	}
	v := make([]uint64, n)
	if err := binary.Read(r, binary.LittleEndian, v); err != nil {
		return err
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if !bytes.Equal(rest, pattern(v[0], snapshotSize)) {
		return errors.New("snapshot is not what was saved")
	}
	s.applied, s.numbers = v[0], make(map[uint64]bool)
	for _, i := range v[1:] {
		s.numbers[i] = true
	}
	s.restored++
	return nil
}

func (s *set) state() (size, restored int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.numbers), s.restored
}

// member is a broker as far as raft is concerned.
type member struct {
	id   string
	link *network.Link
	host *dragonboat.NodeHost
	sm   *set
}

// members starts three with a replica each.
func members(t *testing.T, w *world) []*member {
	t.Helper()
	targets := map[uint64]dragonboat.Target{1: "a", 2: "b", 3: "c"}
	var all []*member
	for replica, id := range targets {
		m := &member{id: id, link: w.attach(id), sm: &set{numbers: make(map[uint64]bool)}}
		fs := vfs.NewMem()
		host, err := dragonboat.NewNodeHost(config.NodeHostConfig{
			DeploymentID: 1, NodeHostDir: "/raft", RaftAddress: id, RTTMillisecond: 10,
			Expert: config.ExpertConfig{
				TransportFactory: m.link.Raft(),
				Engine:           config.EngineConfig{ExecShards: 1, CommitShards: 1, ApplyShards: 2, SnapshotShards: 2, CloseShards: 1},
				LogDB:            config.LogDBConfig{Shards: 1},
				LogDBFactory:     raftlog.NewFactory(raftlog.Options{FS: fs, SegmentBytes: 256 << 10}),
				FS:               fs,
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(host.Close)
		m.host = host
		err = host.StartOnDiskReplica(targets, false, func(uint64, uint64) sm.IOnDiskStateMachine { return m.sm },
			config.Config{ShardID: shard, ReplicaID: replica, ElectionRTT: 20, HeartbeatRTT: 2, CheckQuorum: true, PreVote: true})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// leader waits until some members agree on one of them.
func leader(t *testing.T, of []*member) (lead *member) {
	t.Helper()
	eventually(t, "there is a leader", func() bool {
		leaders := make(map[uint64]bool)
		for _, m := range of {
			replica, _, _, err := m.host.GetLeaderID(shard)
			if err != nil {
				return false
			}
			leaders[replica] = true
			if rune(m.id[0]) == 'a'+rune(replica)-1 {
				lead = m
			}
		}
		return len(leaders) == 1 && lead != nil && leaders[uint64(lead.id[0]-'a'+1)]
	})
	return lead
}

// put adds numbers from first to last to the set, through whichever of some
// members leads.
func put(t *testing.T, of []*member, first, last uint64) {
	t.Helper()
	for i := first; i <= last; i++ {
		eventually(t, fmt.Sprintf("%d is committed", i), func() bool {
			m := leader(t, of)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := m.host.SyncPropose(ctx, m.host.GetNoOPSession(shard), binary.LittleEndian.AppendUint64(nil, i))
			return err == nil
		})
	}
}

// agree waits until all members have so many numbers.
func agree(t *testing.T, all []*member, size int) {
	t.Helper()
	for _, m := range all {
		eventually(t, fmt.Sprintf("%s has %d numbers", m.id, size), func() bool {
			got, _ := m.sm.state()
			return got == size
		})
	}
}

func without(all []*member, m *member) (rest []*member) {
	for _, other := range all {
		if other != m {
			rest = append(rest, other)
		}
	}
	return rest
}

// What the network is for, with the real library on it.
func TestThreeNodeHostsReplicateFailOverAndCatchUp(t *testing.T) {
	onAll(t, func(t *testing.T, w *world) {
		all := members(t, w)
		put(t, all, 1, 50)
		agree(t, all, 50)

		// The leader is cut off: the others elect a new one.
		first := leader(t, all)
		rest := without(all, first)
		w.faults.Isolate(first.id)
		put(t, rest, 51, 100)
		agree(t, rest, 100)
		if size, _ := first.sm.state(); size != 50 {
			t.Errorf("the broker that was cut off has %d numbers", size)
		}
		w.faults.Heal(first.id)
		agree(t, all, 100)

		// A follower that is cut off for longer than the log reaches back gets a
		// snapshot, in chunks.
		lagging := without(all, leader(t, all))[0]
		rest = without(all, lagging)
		w.faults.Isolate(lagging.id)
		put(t, rest, 101, 200)
		agree(t, rest, 200)
		for _, m := range rest {
			eventually(t, "a snapshot is taken", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				_, err := m.host.SyncRequestSnapshot(ctx, shard, dragonboat.SnapshotOption{OverrideCompactionOverhead: true, CompactionOverhead: 1})
				return err == nil
			})
		}
		put(t, rest, 201, 210)
		w.faults.Heal(lagging.id)
		agree(t, all, 210)
		if _, restored := lagging.sm.state(); restored == 0 {
			t.Error("it caught up without a snapshot: this test tests nothing")
		}
		sent := uint64(0)
		for _, m := range all {
			sent += m.link.Stats().SnapshotBytes
		}
		if sent < snapshotSize {
			t.Errorf("%d bytes of snapshots were sent", sent)
		}
		put(t, all, 211, 211)
		agree(t, all, 211)
	})
}
