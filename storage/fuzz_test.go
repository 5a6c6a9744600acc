package storage

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/raftmq/mq/internal/mqerr"
)

// wantClass fails unless an error of a decoder tells what it is.
func wantClass(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, mqerr.ErrCorruptLog) && !errors.Is(err, mqerr.ErrNewerFormat) {
		t.Fatalf("error without a class: %v", err)
	}
}

// A stream gives an error or frames that, written again, are the stream.
func FuzzSnapshotStream(f *testing.F) {
	for _, name := range []string{"log.snapshot", "kv.snapshot"} {
		b, err := os.ReadFile("testdata/v1/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("mqsnap\x02"))
	f.Add([]byte("mqsnap\x01\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr := frameReader{r: bufio.NewReader(bytes.NewReader(b))}
		err := fr.header()
		wantClass(t, err)
		var again bytes.Buffer
		fw := frameWriter{w: &again}
		for err == nil {
			var typ byte
			var payload []byte
			typ, payload, err = fr.next()
			if fr.buf.Cap() > 4*len(b)+4096 {
				t.Fatalf("a stream of %d bytes takes %d of memory", len(b), fr.buf.Cap())
			}
			if err == nil {
				if err := fw.write(typ, payload); err != nil {
					t.Fatal(err)
				}
			}
		}
		wantClass(t, err)
		if n := len(snapshotMagic) + 1; again.Len() > 0 && !bytes.HasPrefix(b[n:], again.Bytes()) {
			t.Fatal("the frames written again are others")
		}
	})
}

func FuzzPairs(f *testing.F) {
	var fw frameWriter
	fw.pair(famData, []byte("key"), []byte("value"))
	fw.pair(famPair, nil, nil)
	f.Add(fw.buf)
	f.Add([]byte("d\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		type pair struct{ family, key, value string }
		decode := func(b []byte) (all []pair, err error) {
			err = eachPair(b, func(f family, key, value []byte) error {
				all = append(all, pair{string(rune(f)), string(key), string(value)})
				return nil
			})
			return all, err
		}
		all, err := decode(b)
		wantClass(t, err)
		var fw frameWriter
		_ = eachPair(b, func(f family, key, value []byte) error {
			fw.pair(f, key, value)
			return nil
		})
		if again, err := decode(fw.buf); err != nil || !reflect.DeepEqual(again, all) {
			t.Fatalf("pairs %q, written again %q, %v", all, again, err)
		}
	})
}

// Values and sealed files give an error or what encodes to the same bytes.
func FuzzValues(f *testing.F) {
	m := spaceMeta{kind: kindLog, State: freshState(), writes: 7}
	f.Add(m.encode())
	f.Add(mark{bytes: 1, appendTime: 2, intervalMax: 3}.encode())
	f.Add(ProducerEntry{Epoch: 1, LastSeq: 2, BaseOffset: 3}.encode())
	f.Add(seal(formatSeal, 1, []byte(`{"broker_id": 3}`)))
	f.Add(seal(formatSeal, 2, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(again []byte) {
			t.Helper()
			if !bytes.Equal(again, b) {
				t.Fatalf("%x encodes to %x", b, again)
			}
		}
		m, err := decodeMeta(b)
		wantClass(t, err)
		if err == nil {
			same(m.encode())
		}
		mk, err := decodeMark(timeKey(ReplicaID{}, 0, 1, 2), b)
		wantClass(t, err)
		if err == nil {
			same(mk.encode())
		}
		p, err := decodeProducer(producerKey(ReplicaID{}, 0, 1, 2), b)
		wantClass(t, err)
		if err == nil {
			same(p.encode())
		}
		v, err := decodeData(b)
		wantClass(t, err)
		if err == nil {
			again := make([]byte, dataHeaderLen, len(b))
			putDataHeader(again, v.appendTime, v.maxTimestamp)
			same(append(again, v.batch...))
		}
		var meta Meta
		_, err = unseal(b, formatSeal, &meta)
		wantClass(t, err)
	})
}
