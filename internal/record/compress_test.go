package record

import (
	"bytes"
	"errors"
	"testing"

	"github.com/raftmq/mq/internal/mqerr"
)

// One target for each codec, so that each keeps a corpus of its own.

func FuzzGzip(f *testing.F)   { fuzzCodec(f, Gzip) }
func FuzzSnappy(f *testing.F) { fuzzCodec(f, Snappy) }
func FuzzLZ4(f *testing.F)    { fuzzCodec(f, LZ4) }
func FuzzZstd(f *testing.F)   { fuzzCodec(f, Zstd) }

// fuzzCodec decompresses anything; what comes out must stay within the limit
// and survive a round trip.
func fuzzCodec(f *testing.F, codec Codec) {
	const limit = 1 << 18
	for _, plain := range []string{"", "a", "some text, some text, some text"} {
		data, err := compress(nil, []byte(plain), codec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		if codec == Snappy {
			framed := append([]byte(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, byte(len(data)))
			f.Add(append(framed, data...))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := decompress(data, codec, limit)
		if err != nil {
			if !errors.Is(err, mqerr.ErrCorruptBatch) && !errors.Is(err, mqerr.ErrRecordTooLarge) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if len(out) > limit {
			t.Fatalf("%d bytes came out, limit %d", len(out), limit)
		}
		data, err = compress(nil, out, codec)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decompress(data, codec, limit)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("round trip of %d bytes gives %d, %v", len(out), len(again), err)
		}
	})
}
