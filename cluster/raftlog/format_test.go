package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/internal/mqerr"
)

// builder writes a segment by hand.
type builder struct {
	content []byte
	log     logID
	chain   uint32
}

const builderNumber = 7

func newBuilder() *builder {
	b := &builder{log: logID{1, 2, 3}}
	b.content, b.chain = putSegmentHeader(b.log, builderNumber, 1<<16)
	return b
}

// group appends a group with one state frame. edit may spoil the header.
func (b *builder) group(epoch, synced uint32, edit func(*groupHeader)) *builder {
	f := newBatch()
	f.addState(nodeID{1, 1}, pb.State{Term: 1, Commit: 1})
	h := groupHeader{
		segment: builderNumber, offset: uint32(len(b.content)), size: uint32(f.size),
		synced: synced, epoch: epoch, prev: b.chain, body: sumOf(f),
	}
	if edit != nil {
		edit(&h)
	}
	header := make([]byte, groupHeaderSize)
	h.put(header, b.log)
	b.content = append(append(b.content, header...), f.buf...)
	b.chain = h.crc
	return b
}

func (b *builder) begin() *walker {
	s := &segment{number: builderNumber, log: b.log}
	_, s.chain = putSegmentHeader(b.log, builderNumber, 1<<16)
	return s.walk(b.content)
}

func (b *builder) walk() (groups int, w *walker) {
	w = b.begin()
	for {
		if _, _, ok, _ := w.next(); !ok {
			return groups, w
		}
		groups++
	}
}

func TestChainEndsAtAGroupThatDoesNotBelong(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*groupHeader){
		"other predecessor": func(h *groupHeader) { h.prev++ },
		"earlier opening":   func(h *groupHeader) { h.epoch-- },
		"other segment":     func(h *groupHeader) { h.segment-- },
		"other place":       func(h *groupHeader) { h.offset++ },
		"other frames":      func(h *groupHeader) { h.body++ },
		"too long":          func(h *groupHeader) { h.size += 1 << 20 },
		"too short":         func(h *groupHeader) { h.size-- },
	} {
		b := newBuilder().group(5, 64, nil).group(5, 64, nil)
		end := len(b.content)
		b.group(5, 64, edit)
		if n, w := b.walk(); n != 2 || w.off != end || w.bad == "" {
			t.Errorf("%s: %d groups up to %d (%s), want 2 up to %d", name, n, w.off, w.bad, end)
		}
	}
	b := newBuilder().group(5, 64, nil)
	b.group(5, 64, func(h *groupHeader) { h.flags = flagSeal }).group(5, 64, nil)
	if n, w := b.walk(); n != 2 || !w.sealed {
		t.Errorf("%d groups, sealed: %v; want 2 up to the seal", n, w.sealed)
	}
}

func TestOnlyALaterGroupOfTheSameOpeningVouches(t *testing.T) {
	t.Parallel()
	spoil := func(h *groupHeader) { h.body++ }
	for _, c := range []struct {
		name   string
		epoch  uint32
		synced int // counts from the end of the chain
		want   bool
	}{
		{"nothing is known of what is bad", 5, 0, false},
		{"the bad group was synced", 5, 1, true},
		{"a later opening knows it was synced", 6, 1, true},
		{"left over from an earlier opening", 4, 1, false},
	} {
		b := newBuilder().group(5, 64, nil)
		end := len(b.content)
		b.group(5, 64, spoil)
		b.content = append(b.content, "MRQG and something that only looks like a group"...)
		b.group(c.epoch, uint32(end+c.synced), nil)
		_, w := b.walk()
		if _, got, err := w.vouched(); got != c.want || err != nil || w.off != end {
			t.Errorf("%s: got %v, %v at %d", c.name, got, err, w.off)
		}
	}
}

// A newer version of mq may go on in a segment that this one began.
func TestGroupOfANewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	b := newBuilder().group(5, 64, nil)
	at := len(b.content)
	b.group(6, 64, nil)
	b.content[at+4]++
	binary.LittleEndian.PutUint32(b.content[at+40:], groupCRC(b.content[at:], b.log))
	w := b.begin()
	if _, _, ok, err := w.next(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, _, ok, err := w.next(); ok || !errors.Is(err, mqerr.ErrNewerFormat) {
		t.Errorf("got %v, %v", ok, err)
	}
}

func TestEntryKeepsEveryField(t *testing.T) {
	t.Parallel()
	e := pb.Entry{Term: 1 << 60, Index: 2, Type: pb.MetadataEntry, Key: 1<<64 - 1, ClientID: 5, SeriesID: 6, RespondedTo: 7, Cmd: []byte("x")}
	v := reflect.ValueOf(e)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("the test leaves %s out", v.Type().Field(i).Name)
		}
	}
	got, err := decodeEntry(append(appendEntryMeta(nil, &e), e.Cmd...))
	if err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestEveryFrameDecodesToWhatWasApplied(t *testing.T) {
	t.Parallel()
	id := nodeID{300, 4}
	b := newBatch()
	b.addBootstrap(id, &pb.Bootstrap{Join: true})
	b.addState(id, pb.State{Term: 1, Vote: 2, Commit: 3})
	b.addSnapshot(kindSnapshot, id, &pb.Snapshot{Index: 9, Term: 1})
	b.addSnapshot(kindInstall, id, &pb.Snapshot{Index: 10, Term: 1})
	b.addEntries(id, []pb.Entry{{Index: 11, Term: 2, Cmd: []byte("a")}})
	b.addCarried(id, 3, &pb.Entry{Index: 12, Term: 2, Cmd: []byte("b")})
	b.addRemoveTo(id, 10)
	b.addRemoveReplica(id)
	off := 0
	for i := range b.ops {
		f, size, err := decodeFrame(b.buf[off:])
		if err != nil {
			t.Fatal(err)
		}
		got, err := opOf(placed{f, loc{uint32(off), uint32(size)}})
		if err != nil {
			t.Fatal(err)
		}
		want := b.ops[i]
		want.entries = nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("frame %d: got %+v, want %+v", i, got, want)
		}
		off += size
	}
	if off != len(b.buf) {
		t.Errorf("%d of %d bytes", off, len(b.buf))
	}
}

func FuzzDecodeFrame(f *testing.F) {
	b := newBatch()
	b.addState(nodeID{1, 2}, pb.State{Term: 1})
	b.addEntries(nodeID{1, 2}, []pb.Entry{{Index: 1, Term: 1, Cmd: []byte("abc")}})
	b.addSnapshot(kindInstall, nodeID{1, 2}, &pb.Snapshot{Index: 3})
	f.Add(b.buf)
	f.Fuzz(func(t *testing.T, in []byte) {
		// A checksum is no secret: whoever wrote the bytes may have set it.
		for _, fix := range []bool{false, true} {
			if fix && len(in) >= frameHeaderSize {
				in = fixFrame(bytes.Clone(in))
			}
			fr, size, err := decodeFrame(in)
			if err != nil {
				continue
			}
			if size > len(in) {
				t.Fatalf("frame of %d bytes in %d", size, len(in))
			}
			o, err := opOf(placed{fr, loc{0, uint32(size)}})
			if err != nil || o.kind != kindEntry {
				continue
			}
			e, err := decodeEntry(fr.body)
			if err != nil {
				t.Fatal(err)
			}
			again := newBatch()
			again.addEntries(fr.id, []pb.Entry{e})
			f2, _, err := decodeFrame(again.buf)
			if err != nil {
				t.Fatal(err)
			}
			if e2, err := decodeEntry(f2.body); err != nil || !reflect.DeepEqual(e, e2) {
				t.Fatalf("%+v became %+v (%v)", e, e2, err)
			}
		}
	})
}

func FuzzWalk(f *testing.F) {
	f.Add(newBuilder().group(5, 64, nil).group(5, 64, nil).content)
	f.Fuzz(func(t *testing.T, in []byte) {
		w := (&builder{content: in, log: logID{1, 2, 3}}).begin()
		for {
			_, frames, ok, err := w.next()
			if !ok || err != nil {
				break
			}
			for _, p := range frames {
				_, _ = opOf(p)
			}
		}
		if w.off > max(len(in), segmentHeaderSize) {
			t.Fatalf("walked to %d of %d", w.off, len(in))
		}
		_, _, _ = w.vouched()
	})
}

func TestCopyNeverCountsBeforeTheEntryItself(t *testing.T) {
	t.Parallel()
	entry := func(i, off uint64) *op {
		return &op{kind: kindEntry, index: i, locs: []loc{{uint32(off), 1}}}
	}
	carried := func(i, off uint64) *op {
		return &op{kind: kindCarried, index: i, locs: []loc{{uint32(off), 1}}}
	}
	p := &span{first: 5, locs: make([]loc, 3)}
	for _, o := range []*op{
		entry(4, 1), entry(8, 2), // not asked for
		entry(5, 3), entry(5, 4), carried(5, 5), // the copy came too late
		carried(6, 6), entry(6, 7), // overwritten later
		carried(7, 8),
		{kind: kindState, index: 6, locs: []loc{{99, 1}}},
	} {
		p.note(o)
	}
	if want := []loc{{4, 1}, {7, 1}, {8, 1}}; !reflect.DeepEqual(p.locs, want) {
		t.Errorf("got %v, want %v", p.locs, want)
	}
	(*span)(nil).note(entry(1, 1)) // a replica that nobody asks about
}
