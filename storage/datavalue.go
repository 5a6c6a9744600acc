package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/raftmq/mq/internal/mqerr"
)

// dataHeaderLen is the size of what stands before a batch in its value:
// version, append time, max timestamp.
const dataHeaderLen = 1 + 8 + 8

func putDataHeader(b []byte, appendTime, maxTimestamp int64) {
	b[0] = FormatVersion
	binary.BigEndian.PutUint64(b[1:], uint64(appendTime))
	binary.BigEndian.PutUint64(b[9:], uint64(maxTimestamp))
}

// dataValue is a decoded batch value. batch aliases the value.
type dataValue struct {
	appendTime, maxTimestamp int64
	batch                    []byte
}

func decodeData(v []byte) (dataValue, error) {
	if len(v) <= dataHeaderLen || v[0] == 0 {
		return dataValue{}, fmt.Errorf("storage: batch value of %d bytes: %w", len(v), mqerr.ErrCorruptLog)
	}
	if v[0] > FormatVersion {
		return dataValue{}, fmt.Errorf("storage: batch value of format %d: %w", v[0], mqerr.ErrNewerFormat)
	}
	return dataValue{
		appendTime:   int64(binary.BigEndian.Uint64(v[1:])),
		maxTimestamp: int64(binary.BigEndian.Uint64(v[9:])),
		batch:        v[dataHeaderLen:],
	}, nil
}

// mark is an entry of the sparse index. It stands at the end of a batch and
// speaks for the interval behind the mark before it.
type mark struct {
	maxTimestamp, last int64 // key: largest timestamp so far, last offset of the batch
	bytes              int64 // bytes ever appended up to and with the batch
	appendTime         int64 // of the batch, the newest so far
	intervalMax        int64 // largest timestamp inside the interval
}

const markLen = 1 + 3*8

func (m mark) encode() []byte {
	b := append(make([]byte, 0, markLen), FormatVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(m.bytes))
	b = binary.BigEndian.AppendUint64(b, uint64(m.appendTime))
	return binary.BigEndian.AppendUint64(b, uint64(m.intervalMax))
}

func decodeMark(k, v []byte) (mark, error) {
	if len(k) != timeLen || len(v) != markLen || v[0] == 0 {
		return mark{}, fmt.Errorf("storage: index entry of %d and %d bytes: %w", len(k), len(v), mqerr.ErrCorruptLog)
	}
	if v[0] > FormatVersion {
		return mark{}, fmt.Errorf("storage: index entry of format %d: %w", v[0], mqerr.ErrNewerFormat)
	}
	return mark{
		maxTimestamp: fromOrderedInt64(binary.BigEndian.Uint64(k[spaceLen:])),
		last:         int64(binary.BigEndian.Uint64(k[spaceLen+8:])),
		bytes:        int64(binary.BigEndian.Uint64(v[1:])),
		appendTime:   int64(binary.BigEndian.Uint64(v[9:])),
		intervalMax:  int64(binary.BigEndian.Uint64(v[17:])),
	}, nil
}

func decodeMarkAt(it *pebble.Iterator) (mark, error) {
	v, err := it.ValueAndErr()
	if err != nil {
		return mark{}, engineError(err)
	}
	return decodeMark(it.Key(), v)
}
