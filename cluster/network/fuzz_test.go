package network

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/internal/mqerr"
)

func FuzzFrame(f *testing.F) {
	f.Add(seal(newFrame(kindPing, 0)))
	f.Add(seal(append(newFrame(kindRequest, 5), "hello"...)))
	f.Add([]byte("\x00\x10\x00\x00abcde and nothing more"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			before := len(b) - r.Len()
			k, body, err := readFrame(r, 1<<24, nil)
			if err != nil {
				return
			}
			if again := seal(append(newFrame(k, len(body)), body...)); !bytes.Equal(again, b[before:len(b)-r.Len()]) {
				t.Fatalf("%x became %x", b[before:len(b)-r.Len()], again)
			}
		}
	})
}

// A length alone must not cost memory.
func TestFrameThatLiesAboutItsLengthCostsLittle(t *testing.T) {
	lie := append([]byte{0x07, 0xff, 0xff, 0xff}, make([]byte, 1000)...) // 128 MiB less one
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 10 {
		if _, _, err := readFrame(bytes.NewReader(lie), maxMessages, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 10*4*readStep {
		t.Errorf("%d bytes", got)
	}
}

func TestFrameIsReadIntoTheBuffer(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 1000, readStep - 1, readStep + 1, 3*readStep + 5} {
		body := bytes.Repeat([]byte{7}, size)
		frame := seal(append(newFrame(kindChunk, size), body...))
		for _, buf := range [][]byte{nil, make([]byte, 10), make([]byte, size+10), make([]byte, 2*readStep)} {
			k, got, err := readFrame(bytes.NewReader(frame), size, buf)
			if err != nil || k != kindChunk || !bytes.Equal(got, body) {
				t.Fatalf("frame of %d: %v, %d bytes", size, err, len(got))
			}
			if size > 0 && cap(buf) >= size && &got[0] != &buf[:1][0] {
				t.Errorf("frame of %d was not read into a buffer of %d", size, cap(buf))
			}
		}
		if size == 0 {
			continue
		}
		if _, _, err := readFrame(bytes.NewReader(frame), size-1, nil); !errors.Is(err, errFrameSize) {
			t.Errorf("frame of %d where less is allowed: %v", size, err)
		}
	}
}

func FuzzGreeting(f *testing.F) {
	i := Identity{ClusterID: "c", DirectoryID: "d", Addr: "host:1", BrokerID: -3, Feature: 7}
	f.Add(hello{class: classCalls, from: i, to: "x"}.encode())
	f.Add(welcome{from: i}.encode())
	f.Add(welcomeOf(i, &RefusedError{By: i, Cause: ErrNotAdmitted, Text: "no"}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, v, err := readHello(bytes.NewReader(b)); err == nil {
			again, _, err := readHello(bytes.NewReader(h.encode()))
			if err != nil || again != h {
				t.Errorf("%+v became %+v, %v", h, again, err)
			}
			judge(i, h, v, nil)
		}
		if w, _, err := readWelcome(bytes.NewReader(b)); err == nil && len(w.text) <= maxRefusal {
			again, _, err := readWelcome(bytes.NewReader(w.encode()))
			if err != nil || again != w {
				t.Errorf("%+v became %+v, %v", w, again, err)
			}
			w.refused()
		}
	})
}

// Later versions may say more.
func TestGreetingWithMoreFieldsIsUnderstood(t *testing.T) {
	t.Parallel()
	want := hello{class: classRaft, from: Identity{DirectoryID: "d"}, to: "x"}
	b := want.encode()
	b = endGreeting(append(b[:len(b)-4], "what version 2 adds"...))
	b[4] = 2
	b = endGreeting(b[:len(b)-4])
	got, v, err := readHello(bytes.NewReader(b))
	if err != nil || got != want || v != (versions{newest: 2, oldest: 1}) {
		t.Errorf("got %+v, %+v, %v", got, v, err)
	}
	if r := judge(Identity{DirectoryID: "x"}, hello{class: classCalls, from: got.from, to: "x"}, v, nil); r != nil {
		t.Errorf("refused: %v", r)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(answerFrame(1, []byte("payload"), nil)[headerBytes:])
	f.Add(answerFrame(1<<60, nil, mqerr.ErrBusy)[headerBytes:])
	f.Add(answerFrame(3, nil, &mqerr.Detail{Err: mqerr.ErrNotLeader, Leader: 1, LeaderAddr: "a", HighWatermark: -1})[headerBytes:])
	f.Fuzz(func(t *testing.T, b []byte) {
		r := fieldsOf(b)
		number := r.Uvarint()
		payload, outcome := r.outcome()
		if r.err() != nil {
			return
		}
		again := fieldsOf(answerFrame(number, payload, outcome)[headerBytes:])
		n := again.Uvarint()
		p, o := again.outcome()
		if again.err() != nil || n != number || !bytes.Equal(p, payload) || (o == nil) != (outcome == nil) {
			t.Fatalf("%d %x %v became %d %x %v, %v", number, payload, outcome, n, p, o, again.err())
		}
		if o != nil && mqerr.Of(o) != mqerr.Of(outcome) {
			t.Errorf("%v became %v", outcome, o)
		}
	})
}

// The library's decoders panic on some input; ours don't.
func FuzzRaftPayload(f *testing.F) {
	b := raftpb.MessageBatch{SourceAddress: "a", Requests: []raftpb.Message{
		{Type: raftpb.Replicate, To: 1, From: 2, Entries: []raftpb.Entry{{Index: 1, Cmd: []byte("cmd")}}},
		{Type: raftpb.HeartbeatResp, To: 1, From: 2},
	}}
	frame, err := encodeMessages(b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame[headerBytes:])
	f.Add(chunkFrame(1, raftpb.Chunk{ShardID: 1, Data: []byte("data"), Filepath: "f"})[headerBytes+1:])
	f.Add([]byte("\x0a\x02\x0a\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeMessages(b); err == nil {
			_ = checkMessages(m, "a")
		}
		_, _ = decodeChunk(b)
	})
}

func TestDamagedRaftPayloadIsAnErrorNotAPanic(t *testing.T) {
	t.Parallel()
	b := raftpb.MessageBatch{SourceAddress: "a", Requests: []raftpb.Message{{To: 1, Entries: []raftpb.Entry{{Index: 1 << 50, Cmd: []byte("cmd")}}}}}
	frame, err := encodeMessages(b)
	if err != nil {
		t.Fatal(err)
	}
	body := frame[headerBytes:]
	for cut := range body {
		_, _ = decodeMessages(body[:cut])
		for bit := range 8 {
			damaged := bytes.Clone(body)
			damaged[cut] ^= 1 << bit
			_, _ = decodeMessages(damaged)
			_, _ = decodeChunk(damaged)
		}
	}
}
