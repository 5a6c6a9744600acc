package cluster

import (
	"encoding/binary"
	"fmt"

	"github.com/raftmq/mq/internal/mqerr"
)

// featureLevel is the newest command format this build applies. The level of its
// cluster is the first byte of every command that a broker proposes: see
// raiseFeature. A replica that meets a higher one than it knows parks: see machine.
const featureLevel = 1

// oldestFeature is the level of a cluster that is new.
const oldestFeature = 1

// knows is the newest feature level that this broker applies.
func (n *Node) knows() uint8 {
	if level := n.cfg.Test.Feature; level > 0 {
		return level
	}
	return featureLevel
}

// kind says what a command does. The numbers are on disk; never reuse one.
type kind uint8

const (
	kindBeginEpoch      kind = 1
	kindAppend          kind = 2
	kindTrim            kind = 3
	kindExpireProducers kind = 4
	kindMeta            kind = 5
	kindCommitOffsets   kind = 6
	kindPurgeTopic      kind = 7
	kindGroup           kind = 8
	kindDeleteGroup     kind = 9
	kindDeleteOffsets   kind = 10
	kindExpireGroup     kind = 11
)

// header is the fixed front of every command. Everything that is not a function
// of the log (time, ids) is decided by the proposer and travels here.
type header struct {
	feature uint8
	kind    kind
	epoch   int32 // the proposer's leader epoch
	id      proposalID
	time    int64 // the proposer's clock, ms since 1970
}

// proposalID finds the caller that waits for a command on the broker that
// proposed it: nonce is drawn at each start.
type proposalID struct {
	nonce, seq uint64
}

const headerSize = 30

func appendHeader(dst []byte, h header) []byte {
	dst = append(dst, h.feature, byte(h.kind))
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.epoch))
	dst = binary.BigEndian.AppendUint64(dst, h.id.nonce)
	dst = binary.BigEndian.AppendUint64(dst, h.id.seq)
	return binary.BigEndian.AppendUint64(dst, uint64(h.time))
}

// parseHeader splits a command. The body aliases cmd.
func parseHeader(cmd []byte) (header, []byte, error) {
	if len(cmd) < headerSize {
		return header{}, nil, fmt.Errorf("%w: command of %d bytes", mqerr.ErrCorruptLog, len(cmd))
	}
	return header{
		feature: cmd[0],
		kind:    kind(cmd[1]),
		epoch:   int32(binary.BigEndian.Uint32(cmd[2:])),
		id:      proposalID{binary.BigEndian.Uint64(cmd[6:]), binary.BigEndian.Uint64(cmd[14:])},
		time:    int64(binary.BigEndian.Uint64(cmd[22:])),
	}, cmd[headerSize:], nil
}

// result is what applying a command gave. Err is a refusal decided by the state
// machine, the same on every replica.
type result struct {
	err      error
	offset   int64 // base offset of an append, -1 when unknown
	logStart int64
	epoch    int32
	value    any // of metadata commands and commits
}

func refused(err error) result { return result{err: err, offset: -1} }
