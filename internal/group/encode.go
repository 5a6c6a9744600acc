package group

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/unpack"
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
	d := decoderOf(b)
	d.version()
	s = &State{Members: make(map[string]*Member)}
	s.Revision = d.Uvarint()
	s.Epoch = d.int32()
	s.TopicsHash = d.Uint64()
	s.EmptySince = d.Varint()
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
		b = unpack.AppendString(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Topics)))
	for _, s := range m.Topics {
		b = unpack.AppendString(b, s)
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
	d := decoderOf(b)
	d.version()
	m := &Member{ID: id, Away: d.Byte() != 0, Held: make(map[Partition]Tenure)}
	for _, s := range []*string{&m.InstanceID, &m.ClientID, &m.Pattern, &m.Assignor} {
		*s = d.Text()
	}
	for range d.Count(1) {
		m.Topics = append(m.Topics, d.Text())
	}
	m.SessionTimeout = time.Duration(d.int32()) * time.Millisecond
	m.RebalanceTimeout = time.Duration(d.int32()) * time.Millisecond
	m.Seen = d.int32()
	d.partitions(3, func(p Partition) { m.Held[p] = Tenure{Since: d.int32(), Revoked: d.int32()} })
	d.partitions(1, func(p Partition) { m.Target = append(m.Target, p) })
	return m, d.end("member " + id)
}

// decoder reads a record; after the first error everything is zero.
type decoder struct{ unpack.Reader }

func decoderOf(b []byte) decoder { return decoder{unpack.Reader{Rest: b}} }

func (d *decoder) end(what string) error {
	if !d.Done() {
		return fmt.Errorf("%w: record of a group's %s", mqerr.ErrCorruptLog, what)
	}
	return nil
}

func (d *decoder) version() {
	if d.Byte() != recordVersion {
		d.Fail()
	}
}

// int32 reads a number that is not negative.
func (d *decoder) int32() int32 {
	v := d.Uvarint()
	if v > 1<<31-1 {
		d.Fail()
		return 0
	}
	return int32(v)
}

func (d *decoder) partitions(size int, fn func(Partition)) {
	for range d.Count(len(uuid.UUID{}) + 1) {
		var id uuid.UUID
		copy(id[:], d.Bytes(uint64(len(id))))
		for range d.Count(size) {
			fn(Partition{id, d.int32()})
		}
	}
}
