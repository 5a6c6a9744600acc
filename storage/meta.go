package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/raftmq/mq/internal/mqerr"
)

// NoEpoch is the epoch of a log in which none has begun.
const NoEpoch int32 = -1

// NoTimestamp is the time of a log to which nothing was appended.
const NoTimestamp int64 = -1

// State is a log as a batch left it. Equal batches give equal states on every
// replica: no clock and no local matter goes into it.
type State struct {
	// Applied is the mark of the newest batch.
	Applied uint64
	// Start is the oldest readable offset, End the next to be written.
	Start, End int64
	// Epoch is the newest epoch that began, or NoEpoch.
	Epoch int32
	// Bytes is the size of the readable batches; a batch that is readable in
	// part counts whole.
	Bytes int64
	// AppendTime is the largest append time ever given, in ms since 1970, or NoTimestamp.
	AppendTime int64
	// MaxTimestamp is the largest record timestamp ever appended, in ms since
	// 1970, or NoTimestamp. Its record may have been trimmed since.
	MaxTimestamp int64
	// Digest chains all batches ever appended:
	//
	//	digest' = XXH64(digest ‖ epoch ‖ first offset ‖ last offset ‖ batch)
	//
	// over big-endian numbers of 8, 4, 8 and 8 bytes, from 0. Replicas with
	// equal End and different Digest have diverged.
	Digest uint64
	// Feature is the feature level the log was last told of.
	Feature uint32
}

func freshState() State {
	return State{Epoch: NoEpoch, AppendTime: NoTimestamp, MaxTimestamp: NoTimestamp}
}

// kind says what a key space is.
type kind byte

const (
	kindLog kind = 1
	kindKV  kind = 2
)

func (k kind) String() string {
	switch k {
	case kindLog:
		return "log"
	case kindKV:
		return "key-value space"
	}
	return fmt.Sprintf("kind(%d)", byte(k))
}

// spaceMeta is the value of a meta key: the state and what is needed to go on.
// A KV uses Applied alone.
type spaceMeta struct {
	gen       uint64 // not encoded: it is in the key
	kind      kind
	restoring bool   // a Restore fills this generation; it is not in use yet
	writes    uint64 // batches committed in all generations

	State
	written    int64 // bytes ever appended; written-Bytes lie below Start
	marked     int64 // written at the newest mark of the sparse index
	tailMax    int64 // largest timestamp behind the newest mark
	freed      int64 // batches below this offset are deleted, not only unreadable
	freedBytes int64 // bytes deleted
}

// plausible refuses what no log can have.
func (m *spaceMeta) plausible() bool {
	return m.Start >= 0 && m.Start <= m.End && m.Bytes >= 0 && m.Bytes <= m.written &&
		m.marked >= 0 && m.marked <= m.written && m.freed >= 0 && m.freed <= m.Start &&
		m.freedBytes >= 0 && m.freedBytes <= m.written
}

// metaLen is the size of an encoded spaceMeta: version, kind, flags, numbers.
const metaLen = 3 + 8 + (8 + 8 + 8 + 4 + 8 + 8 + 8 + 8 + 4) + 5*8

const flagRestoring = 1

func (m *spaceMeta) encode() []byte {
	b := make([]byte, 0, metaLen)
	var flags byte
	if m.restoring {
		flags |= flagRestoring
	}
	b = append(b, FormatVersion, byte(m.kind), flags)
	be := binary.BigEndian
	b = be.AppendUint64(b, m.writes)
	b = be.AppendUint64(b, m.Applied)
	b = be.AppendUint64(b, uint64(m.Start))
	b = be.AppendUint64(b, uint64(m.End))
	b = be.AppendUint32(b, uint32(m.Epoch))
	b = be.AppendUint64(b, uint64(m.Bytes))
	b = be.AppendUint64(b, uint64(m.AppendTime))
	b = be.AppendUint64(b, uint64(m.MaxTimestamp))
	b = be.AppendUint64(b, m.Digest)
	b = be.AppendUint32(b, m.Feature)
	for _, v := range [...]int64{m.written, m.marked, m.tailMax, m.freed, m.freedBytes} {
		b = be.AppendUint64(b, uint64(v))
	}
	return b
}

func decodeMeta(b []byte) (spaceMeta, error) {
	if len(b) > 0 && b[0] > FormatVersion {
		return spaceMeta{}, fmt.Errorf("state of format %d: %w", b[0], mqerr.ErrNewerFormat)
	}
	if len(b) != metaLen || b[0] == 0 || b[2] > flagRestoring {
		return spaceMeta{}, fmt.Errorf("state of %d bytes is not one: %w", len(b), mqerr.ErrCorruptLog)
	}
	m := spaceMeta{kind: kind(b[1]), restoring: b[2]&flagRestoring != 0}
	b = b[3:]
	u64 := func() uint64 {
		v := binary.BigEndian.Uint64(b)
		b = b[8:]
		return v
	}
	u32 := func() uint32 {
		v := binary.BigEndian.Uint32(b)
		b = b[4:]
		return v
	}
	m.writes, m.Applied = u64(), u64()
	m.Start, m.End = int64(u64()), int64(u64())
	m.Epoch = int32(u32())
	m.Bytes, m.AppendTime, m.MaxTimestamp = int64(u64()), int64(u64()), int64(u64())
	m.Digest = u64()
	m.Feature = u32()
	for _, p := range [...]*int64{&m.written, &m.marked, &m.tailMax, &m.freed, &m.freedBytes} {
		*p = int64(u64())
	}
	return m, nil
}
