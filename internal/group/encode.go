package group

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/mqerr"
)

// Stored records begin with a version. Numbers are varints, strings and lists
// have their length before them.
const recordVersion = 1

// EncodeHeader gives the record of what a state has beside its members, and of
// how many they are.
func (s *State) EncodeHeader() []byte {
	b := []byte{recordVersion}
	b = binary.AppendUvarint(b, s.Revision)
	b = binary.AppendUvarint(b, uint64(s.Epoch))
	b = binary.BigEndian.AppendUint64(b, s.TopicsHash)
	b = binary.AppendVarint(b, s.EmptySince)
	return binary.AppendUvarint(b, uint64(len(s.Members)))
}

// DecodeHeader reads such a record. The state has no members yet, but members
// tells how many there are.
func DecodeHeader(b []byte) (s *State, members int, err error) {
	d := decoder{b: b}
	d.version()
	s = &State{Members: make(map[string]*Member)}
	s.Revision = d.uvarint()
	s.Epoch = d.int32()
	s.TopicsHash = d.fixed64()
	s.EmptySince = d.varint()
	members = int(d.int32())
	return s, members, d.end("header")
}

// Encode gives the record of a member, without its id.
func (m *Member) Encode() []byte {
	b := []byte{recordVersion}
	var away byte
	if m.Away {
		away = 1
	}
	b = append(b, away)
	for _, s := range []string{m.InstanceID, m.ClientID, m.Pattern, m.Assignor} {
		b = appendString(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Topics)))
	for _, s := range m.Topics {
		b = appendString(b, s)
	}
	b = binary.AppendUvarint(b, uint64(m.SessionTimeout/time.Millisecond))
	b = binary.AppendUvarint(b, uint64(m.RebalanceTimeout/time.Millisecond))
	b = binary.AppendUvarint(b, uint64(m.Seen))
	held := append(m.Assigned(), m.Revoking()...)
	slices.SortFunc(held, comparePartitions)
	b = appendPartitions(b, held, func(b []byte, p Partition) []byte {
		t := m.Held[p]
		return binary.AppendUvarint(binary.AppendUvarint(b, uint64(t.Since)), uint64(t.Revoked))
	})
	return appendPartitions(b, m.Target, func(b []byte, _ Partition) []byte { return b })
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendPartitions writes sorted partitions, each topic once, with what more
// there is to each.
func appendPartitions(b []byte, ps []Partition, more func([]byte, Partition) []byte) []byte {
	var topics [][]Partition
	for len(ps) > 0 {
		n := slices.IndexFunc(ps, func(p Partition) bool { return p.Topic != ps[0].Topic })
		if n < 0 {
			n = len(ps)
		}
		topics, ps = append(topics, ps[:n]), ps[n:]
	}
	b = binary.AppendUvarint(b, uint64(len(topics)))
	for _, of := range topics {
		b = append(b, of[0].Topic[:]...)
		b = binary.AppendUvarint(b, uint64(len(of)))
		for _, p := range of {
			b = more(binary.AppendUvarint(b, uint64(p.Number)), p)
		}
	}
	return b
}

// DecodeMember reads the record of a member.
func DecodeMember(id string, b []byte) (*Member, error) {
	d := decoder{b: b}
	d.version()
	m := &Member{ID: id, Away: d.byte() != 0, Held: make(map[Partition]Tenure)}
	for _, s := range []*string{&m.InstanceID, &m.ClientID, &m.Pattern, &m.Assignor} {
		*s = d.string()
	}
	for range d.count(1) {
		m.Topics = append(m.Topics, d.string())
	}
	m.SessionTimeout = time.Duration(d.int32()) * time.Millisecond
	m.RebalanceTimeout = time.Duration(d.int32()) * time.Millisecond
	m.Seen = d.int32()
	d.partitions(3, func(p Partition) { m.Held[p] = Tenure{Since: d.int32(), Revoked: d.int32()} })
	d.partitions(1, func(p Partition) { m.Target = append(m.Target, p) })
	return m, d.end("member " + id)
}

// decoder reads a record; after the first error everything is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() {
	d.b, d.bad = nil, true
}

func (d *decoder) end(what string) error {
	if d.bad || len(d.b) > 0 {
		return fmt.Errorf("%w: record of a group's %s", mqerr.ErrCorruptLog, what)
	}
	return nil
}

func (d *decoder) version() {
	if d.byte() != recordVersion {
		d.fail()
	}
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return make([]byte, min(n, 16))
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) byte() byte { return d.take(1)[0] }

func (d *decoder) fixed64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// int32 reads a number that is not negative.
func (d *decoder) int32() int32 {
	v := d.uvarint()
	if v > 1<<31-1 {
		d.fail()
		return 0
	}
	return int32(v)
}

// count reads how many come, each of at least size bytes.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) string() string { return string(d.take(d.count(1))) }

func (d *decoder) partitions(size int, fn func(Partition)) {
	for range d.count(len(uuid.UUID{}) + 1) {
		var id uuid.UUID
		copy(id[:], d.take(len(id)))
		for range d.count(size) {
			fn(Partition{id, d.int32()})
		}
	}
}
