package raftlog

import (
	"encoding/binary"
	"hash/crc32"
)

// SetVersionForTest makes a segment one of another format version.
func SetVersionForTest(content []byte, version uint8) {
	content[8] = version
	binary.LittleEndian.PutUint32(content[40:], crc32.Checksum(content[:40], castagnoli))
}

func sumOf(b *batch) uint32 { return crc32.Checksum(b.crcs, castagnoli) }

// fixFrame gives a frame the size and checksum that it should have.
func fixFrame(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-frameHeaderSize))
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

// Waiting is how many calls wait for the writer to take them.
func (l *Log) Waiting() int {
	l.queue.Lock()
	defer l.queue.Unlock()
	return len(l.queue.batches)
}
