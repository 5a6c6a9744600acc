package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/raftmq/mq/internal/unpack"
)

// The one who dials says hello, the other answers with a welcome or a refusal.
// Both have this frame, which no version of the protocol may change:
//
//	magic   "mqbb"
//	version uint8    the newest protocol the sender speaks
//	oldest  uint8    the oldest
//	length  uint16   of the fields
//	fields           those of hello or welcome; later versions add at the end
//	crc     uint32   CRC-32C of all before
//
// The connection speaks the newest version that both know.
const (
	magic         = "mqbb"
	newestVersion = 1
	oldestVersion = 1

	greetingHeader = 8
	maxGreeting    = 4 << 10 // bytes of fields
	maxName        = 256     // bytes of each name in an identity
	maxRefusal     = 1 << 10 // bytes of the text of a refusal
)

// Why a broker refuses another one. A RefusedError has one of them as cause.
var (
	ErrWrongCluster   = errors.New("the brokers belong to different clusters")
	ErrWrongDirectory = errors.New("another data directory was expected")
	ErrNewerProtocol  = errors.New("the protocol is too new")
	ErrNotAdmitted    = errors.New("not admitted")
	ErrTooMany        = errors.New("too many connections")
	ErrNoCluster      = errors.New("a broker belongs to no cluster yet") // it is being let into one
)

// refusals gives the causes their numbers on the wire, from 1; 0 is a welcome.
var refusals = []error{nil, ErrWrongCluster, ErrWrongDirectory, ErrNewerProtocol, ErrNotAdmitted, ErrTooMany, ErrNoCluster}

// errNotBroker says that what came is no greeting at all.
var errNotBroker = errors.New("not a broker of this kind")

// RefusedError says that a broker didn't take a connection, and why. Both sides
// get the same one.
type RefusedError struct {
	By    Identity // who refused
	Cause error    // ErrWrongCluster and so on; nil if it is of a later version
	Text  string   // for people
}

// Error implements error.
func (e *RefusedError) Error() string { return fmt.Sprintf("refused by %v: %s", e.By, e.Text) }

// Unwrap gives the cause.
func (e *RefusedError) Unwrap() error { return e.Cause }

// class is what a connection is for.
type class uint8

const (
	classRaft class = iota + 1
	classSnapshot
	classCalls
)

// String names the class in logs.
func (c class) String() string {
	switch c {
	case classRaft:
		return "raft"
	case classSnapshot:
		return "snapshot"
	case classCalls:
		return "calls"
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// hello is what the one who dials says.
type hello struct {
	class class
	from  Identity
	to    string // directory id; empty says "whoever you are"
}

// welcome is the answer: a refusal if refusal is not 0.
type welcome struct {
	from    Identity
	refusal byte
	text    string
}

// versions are those a greeting names.
type versions struct{ newest, oldest byte }

func (h hello) encode() []byte {
	b := beginGreeting()
	b = append(b, byte(h.class))
	b = unpack.AppendString(b, h.to)
	b = appendIdentity(b, h.from)
	return endGreeting(b)
}

func (w welcome) encode() []byte {
	b := beginGreeting()
	b = append(b, w.refusal)
	b = unpack.AppendString(b, w.text[:min(len(w.text), maxRefusal)])
	b = appendIdentity(b, w.from)
	return endGreeting(b)
}

// readHello reads what the one who dialled says. That it speaks only newer
// versions is for the caller to judge; the fields are there all the same.
func readHello(r io.Reader) (hello, versions, error) {
	f, v, err := readGreeting(r)
	if err != nil {
		return hello{}, v, err
	}
	h := hello{class: class(f.Byte()), to: f.Text(), from: f.identity()}
	if f.err() == nil && (h.class < classRaft || h.class > classCalls || h.from.DirectoryID == "") {
		f.Fail()
	}
	return h, v, f.err()
}

func readWelcome(r io.Reader) (welcome, versions, error) {
	f, v, err := readGreeting(r)
	if err != nil {
		return welcome{}, v, err
	}
	w := welcome{refusal: f.Byte(), text: f.Text(), from: f.identity()}
	return w, v, f.err()
}

// welcomeOf is the answer of a broker, a refusal if there is one.
func welcomeOf(self Identity, r *RefusedError) welcome {
	if r == nil {
		return welcome{from: self}
	}
	return welcome{from: self, refusal: byte(slices.Index(refusals, r.Cause)), text: r.Text}
}

// refused is the refusal that the answer is, nil if it is a welcome.
func (w welcome) refused() *RefusedError {
	if w.refusal == 0 {
		return nil
	}
	r := &RefusedError{By: w.from, Text: w.text}
	if int(w.refusal) < len(refusals) {
		r.Cause = refusals[w.refusal]
	}
	return r
}

func beginGreeting() []byte {
	return append([]byte(magic), newestVersion, oldestVersion, 0, 0)
}

func endGreeting(b []byte) []byte {
	binary.BigEndian.PutUint16(b[greetingHeader-2:], uint16(len(b)-greetingHeader))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func readGreeting(r io.Reader) (fields, versions, error) {
	var header [greetingHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return fields{}, versions{}, unexpected(err)
	}
	v := versions{newest: header[4], oldest: header[5]}
	length := binary.BigEndian.Uint16(header[6:])
	if string(header[:4]) != magic || length > maxGreeting {
		return fields{}, versions{}, errNotBroker
	}
	rest := make([]byte, length+4)
	if _, err := io.ReadFull(r, rest); err != nil {
		return fields{}, v, unexpected(err)
	}
	body := rest[:length]
	crc := crc32.Update(crc32.Checksum(header[:], castagnoli), castagnoli, body)
	if crc != binary.BigEndian.Uint32(rest[length:]) {
		return fields{}, v, errFrameDamaged
	}
	return fieldsOf(body), v, nil
}

func appendIdentity(b []byte, i Identity) []byte {
	b = unpack.AppendString(b, i.ClusterID)
	b = unpack.AppendString(b, i.DirectoryID)
	b = unpack.AppendString(b, i.Addr)
	b = binary.AppendVarint(b, int64(i.BrokerID))
	return binary.AppendUvarint(b, uint64(i.Feature))
}

func (f *fields) identity() Identity {
	return Identity{
		ClusterID:   f.Text(),
		DirectoryID: f.Text(),
		Addr:        f.Text(),
		BrokerID:    int32(f.Varint()),
		Feature:     uint32(f.Uvarint()),
	}
}

// judge decides about a hello; nil is welcome.
func judge(self Identity, h hello, v versions, admit func(Identity) error) *RefusedError {
	refuse := func(cause error, format string, args ...any) *RefusedError {
		return &RefusedError{By: self, Cause: cause, Text: fmt.Sprintf(format, args...)}
	}
	them := h.from
	switch {
	case v.oldest > newestVersion:
		return refuse(ErrNewerProtocol, "broker %d speaks protocol %d and newer, broker %d only up to %d: upgrade broker %[3]d first",
			them.BrokerID, v.oldest, self.BrokerID, newestVersion)
	case self.ClusterID != them.ClusterID && self.ClusterID != "" && them.ClusterID != "":
		return refuse(ErrWrongCluster, "broker %d belongs to cluster %q, broker %d to cluster %q",
			self.BrokerID, self.ClusterID, them.BrokerID, them.ClusterID)
	case (self.ClusterID == "" || them.ClusterID == "") && h.class != classCalls:
		return refuse(ErrNoCluster, "broker %d or broker %d belongs to no cluster yet", self.BrokerID, them.BrokerID)
	case h.to != "" && h.to != self.DirectoryID:
		return refuse(ErrWrongDirectory, "broker %d has data directory %s, broker %d expected %s: if its disk was lost it must join under a new broker id",
			self.BrokerID, self.DirectoryID, them.BrokerID, h.to)
	}
	if admit != nil {
		if err := admit(them); err != nil {
			return refuse(ErrNotAdmitted, "%v", err)
		}
	}
	return nil
}
