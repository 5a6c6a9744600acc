package group

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
)

var update = flag.Bool("update", false, "write the golden files of the present record version")

func goldenState() *State {
	m := &Member{
		ID: "member", InstanceID: "instance", ClientID: "client", Away: true, Seen: 300,
		Subscription: Subscription{
			Topics: []string{"orders", "payments"}, Pattern: "t.*", Assignor: Range,
			SessionTimeout: 45 * time.Second, RebalanceTimeout: 5 * time.Minute,
		},
		Held:   map[Partition]Tenure{part(1, 0): {Since: 7}, part(1, 200): {Since: 299, Revoked: 301}, part(2, 3): {Since: 1}},
		Target: []Partition{part(1, 0), part(2, 3), part(2, 1<<20)},
	}
	return &State{Revision: 1 << 40, Epoch: 301, TopicsHash: 1<<63 + 5, EmptySince: 1_700_000_000_000, Members: map[string]*Member{m.ID: m}}
}

// The golden files of a version are made once, with -update, before it is
// released, and never changed.
func TestStoredRecordsAreReadForEver(t *testing.T) {
	t.Parallel()
	s := goldenState()
	for file, b := range map[string][]byte{"header.v1": s.EncodeHeader(), "member.v1": s.Members["member"].Encode()} {
		path := filepath.Join("testdata", file)
		if *update {
			if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, b, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(golden, b) {
			t.Errorf("%s is written as\n%x, was\n%x", file, b, golden)
		}
		for n := range golden {
			if err := decode(file, golden[:n]); !errors.Is(err, mqerr.ErrCorruptLog) {
				t.Fatalf("%d bytes of %s: %v", n, file, err)
			}
		}
		if err := decode(file, append(golden, 0)); !errors.Is(err, mqerr.ErrCorruptLog) {
			t.Errorf("%s and more: %v", file, err)
		}
		golden[0]++
		if err := decode(file, golden); !errors.Is(err, mqerr.ErrCorruptLog) {
			t.Errorf("%s of another version: %v", file, err)
		}
	}
	h, members, err := DecodeHeader(s.EncodeHeader())
	if err != nil || members != 1 || h.Revision != s.Revision || h.Epoch != s.Epoch || h.TopicsHash != s.TopicsHash || h.EmptySince != s.EmptySince {
		t.Errorf("header: %+v, %d, %v", h, members, err)
	}
	m, err := DecodeMember("member", s.Members["member"].Encode())
	if err != nil || !m.equal(s.Members["member"]) {
		t.Errorf("member: %+v, %v", m, err)
	}
}

func decode(file string, b []byte) (err error) {
	if file == "header.v1" {
		_, _, err = DecodeHeader(b)
	} else {
		_, err = DecodeMember("m", b)
	}
	return err
}

func FuzzDecodeMember(f *testing.F) {
	f.Add(goldenState().Members["member"].Encode())
	f.Add((&Member{}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMember("m", b)
		if err != nil {
			return
		}
		again, err := DecodeMember("m", m.Encode())
		if err != nil || len(again.Held) != len(m.Held) || len(m.Held)+len(m.Target) > len(b) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}

func FuzzDecodeHeader(f *testing.F) {
	f.Add(goldenState().EncodeHeader())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, _, err := DecodeHeader(b); err == nil && s.Epoch < 0 {
			t.Fatalf("epoch %d", s.Epoch)
		}
	})
}
