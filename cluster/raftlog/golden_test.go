package raftlog

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

var update = flag.Bool("update", false, "write the golden files")

// golden checks that content is what version 1 wrote, and returns that. The
// files are never written again; a new version gets its own.
func golden(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, content) {
		t.Error("what is written today is not what version 1 wrote")
	}
	return got
}

// put appends a group with the frames of f.
func (b *builder) put(flags uint8, f *batch) {
	h := groupHeader{
		flags: flags, segment: builderNumber, offset: uint32(len(b.content)), size: uint32(f.size),
		synced: segmentHeaderSize, epoch: 1, prev: b.chain, body: sumOf(f),
	}
	header := make([]byte, groupHeaderSize)
	h.put(header, b.log)
	b.content, b.chain = append(append(b.content, header...), f.buf...), h.crc
}

// firstGroup is what the first group of a golden segment says.
func firstGroup(t *testing.T, content []byte) []op {
	t.Helper()
	w := (&builder{content: content, log: newBuilder().log}).begin()
	_, frames, ok, err := w.next()
	if !ok || err != nil {
		t.Fatalf("no group: %s, %v", w.bad, err)
	}
	var ops []op
	for _, p := range frames {
		o, err := opOf(p)
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, o)
	}
	return ops
}

func TestGoldenSegmentOfVersion1Opens(t *testing.T) {
	t.Parallel()
	b, f, id := newBuilder(), newBatch(), nodeID{300, 4}
	f.addBootstrap(id, &pb.Bootstrap{Join: true, Type: pb.OnDiskStateMachine})
	f.addState(id, pb.State{Term: 3, Vote: 2, Commit: 11})
	f.addSnapshot(kindInstall, id, &pb.Snapshot{Index: 10, Term: 3, ShardID: 300})
	f.addEntries(id, []pb.Entry{{Index: 11, Term: 3, Key: 1 << 40, ClientID: 9, Cmd: []byte("golden")}})
	f.addRemoveTo(id, 9)
	b.put(0, f)
	x, s := newIndex(0), &segment{number: builderNumber}
	for _, o := range firstGroup(t, golden(t, "v1.seg", b.content)) {
		if err := x.apply(&o, s, 0); err != nil {
			t.Fatal(err)
		}
	}
	r := x.replicas[id]
	if r == nil || r.boot == nil || r.state != (pb.State{Term: 3, Vote: 2, Commit: 11}) || r.snapIndex != 10 || r.first() != 11 || r.last != 11 {
		t.Errorf("got %+v", r)
	}
}

func TestGoldenCheckpointOfVersion1Opens(t *testing.T) {
	t.Parallel()
	x, id := newIndex(0), nodeID{300, 4}
	old, older := &segment{number: 5, size: 1 << 20}, &segment{number: 3, size: 4 << 10}
	f := newBatch()
	f.addBootstrap(id, &pb.Bootstrap{Join: true, Type: pb.OnDiskStateMachine})
	f.addState(id, pb.State{Term: 3, Vote: 2, Commit: 11})
	f.addSnapshot(kindInstall, id, &pb.Snapshot{Index: 10, Term: 3, ShardID: 300})
	f.addEntries(id, []pb.Entry{{Index: 11, Term: 3, Cmd: []byte("golden")}})
	next := newBatch()
	next.addEntries(id, []pb.Entry{{Index: 12, Term: 3}, {Index: 13, Term: 4}})
	for i := range f.ops {
		if err := x.apply(&f.ops[i], older, 100); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.apply(&next.ops[0], old, 200); err != nil {
		t.Fatal(err)
	}
	b := newBuilder()
	b.put(flagCheckpoint, x.checkpoint([]*segment{older, old}))

	ops := firstGroup(t, golden(t, "v1-checkpoint.seg", b.content))
	if len(ops) != 2 || len(ops[0].segments) != 2 || ops[0].segments[0] != (segmentSize{3, 4 << 10}) || ops[0].segments[1] != (segmentSize{5, 1 << 20}) {
		t.Fatalf("got %+v", ops)
	}
	y := newIndex(0)
	if err := y.inherit(id, ops[1].inherited, map[uint64]*segment{3: older, 5: old}); err != nil {
		t.Fatal(err)
	}
	if again := y.checkpoint([]*segment{older, old}); !bytes.Equal(again.buf, x.checkpoint([]*segment{older, old}).buf) {
		t.Error("what was read is not what was written")
	}
}
