package record

import (
	"encoding/binary"
	"hash/crc32"
)

// Patch sets what the leader decides when it appends a batch: base offset and
// leader epoch. Both lie outside the CRC. b must hold a batch that Parse took.
func Patch(b []byte, baseOffset int64, leaderEpoch int32) {
	binary.BigEndian.PutUint64(b[atBaseOffset:], uint64(baseOffset))
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], uint32(leaderEpoch))
}

// StampAppendTime makes ms (since 1970) the timestamp of every record of the
// batch in b, and renews the CRC. b must hold one batch that Parse took.
// Kafka: message.timestamp.type=LogAppendTime.
func StampAppendTime(b []byte, ms int64) {
	be := binary.BigEndian
	be.PutUint16(b[atAttributes:], be.Uint16(b[atAttributes:])|attrLogAppendTime)
	be.PutUint64(b[atMaxTimestamp:], uint64(ms))
	putCRC(b)
}

// SetProducer sets who sent the batch in b and with which first sequence, and
// renews the CRC: a producer that bumps its epoch renumbers the batches it has
// not got through. b must hold one batch that Parse took.
func SetProducer(b []byte, id int64, epoch int16, baseSequence int32) {
	putProducer(b, id, epoch, baseSequence)
	putCRC(b)
}

func putProducer(b []byte, id int64, epoch int16, baseSequence int32) {
	be := binary.BigEndian
	be.PutUint64(b[atProducerID:], uint64(id))
	be.PutUint16(b[atProducerEpoch:], uint16(epoch))
	be.PutUint32(b[atBaseSequence:], uint32(baseSequence))
}

// putCRC sets the checksum of the batch that b starts with.
func putCRC(b []byte) {
	size := lengthEnd + int(binary.BigEndian.Uint32(b[atLength:]))
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:size], castagnoli))
}
