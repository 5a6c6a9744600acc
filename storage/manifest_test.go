package storage

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/record"
)

// journal writes records of the given sizes as the engine does and returns
// where each ends.
func journal(t *testing.T, sizes ...int) (b []byte, ends []int) {
	t.Helper()
	var buf bytes.Buffer
	w := record.NewWriter(&buf)
	rng := rand.New(rand.NewPCG(1, uint64(len(sizes))))
	for _, size := range sizes {
		r, err := w.Next()
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		if _, err := r.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, buf.Len())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), ends
}

// Sizes so that records end at, and just before, the border of a block, and
// one takes several blocks.
var journalSizes = []int{100, 1, 0, 32<<10 - 7 - 107 - 8 - 7 - 3, 5000, 100_000, 10, 300}

func TestSoundJournalIsSound(t *testing.T) {
	t.Parallel()
	b, _ := journal(t, journalSizes...)
	if end := soundRecords(b); end != len(b) {
		t.Fatalf("sound up to %d of %d bytes", end, len(b))
	}
	if soundRecords(nil) != 0 || recordAfter(nil, 0) {
		t.Fatal("an empty journal is damaged")
	}
}

func TestTornEndIsNoDamage(t *testing.T) {
	t.Parallel()
	b, ends := journal(t, journalSizes...)
	for n := 0; n < len(b); n += 1 + n/50 {
		sound := 0
		for _, end := range ends {
			if end <= n {
				sound = end
			}
		}
		for name, torn := range map[string][]byte{
			"cut":    b[:n],
			"zeroed": append(bytes.Clone(b[:n]), make([]byte, 40<<10)...),
		} {
			end := soundRecords(torn)
			if end < sound || recordAfter(torn, end) {
				t.Fatalf("journal %s at %d: sound up to %d, want %d, damage %v", name, n, end, sound, recordAfter(torn, end))
			}
		}
	}
}

func TestDamageBeforeASoundRecordIsFound(t *testing.T) {
	t.Parallel()
	b, ends := journal(t, journalSizes...)
	last := ends[len(ends)-2] // what lies behind cannot be told from a torn end
	for i := 0; i < last; i += 1 + len(b)/500 {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		end := soundRecords(bad)
		if end > i {
			continue // in the padding of a block, which nobody reads
		}
		if !recordAfter(bad, end) {
			t.Fatalf("byte %d of %d flipped: sound up to %d and no record seen behind", i, len(b), end)
		}
	}
}
