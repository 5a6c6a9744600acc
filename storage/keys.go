package storage

import "encoding/binary"

// family is the first byte of a key and says what the key holds.
type family byte

const (
	famMeta     family = 'm'
	famData     family = 'd'
	famTime     family = 't'
	famProducer family = 'p'
	famEpoch    family = 'e'
	famPair     family = 'k'
)

// families lists what a key space can hold beside its state, by kind.
func (k kind) families() []family {
	if k == kindKV {
		return []family{famPair}
	}
	return []family{famData, famEpoch, famProducer, famTime}
}

const (
	replicaLen  = 2 + 8 + 8        // family, '/', shard, replica
	spaceLen    = replicaLen + 8   // ... generation
	dataLen     = spaceLen + 8     // ... last offset
	timeLen     = spaceLen + 8 + 8 // ... max timestamp, last offset
	producerLen = spaceLen + 8 + 1 // ... producer id, slot
	epochLen    = spaceLen + 4     // ... epoch
)

func replicaKey(f family, id ReplicaID) []byte {
	k := make([]byte, 0, timeLen)
	k = append(k, byte(f), '/')
	k = binary.BigEndian.AppendUint64(k, id.Shard)
	return binary.BigEndian.AppendUint64(k, id.Replica)
}

// spaceKey is the prefix of a family in one generation. It has room for the
// rest of any fixed-width key.
func spaceKey(f family, id ReplicaID, gen uint64) []byte {
	return binary.BigEndian.AppendUint64(replicaKey(f, id), gen)
}

func metaKey(id ReplicaID, gen uint64) []byte { return spaceKey(famMeta, id, gen) }

func dataKey(id ReplicaID, gen uint64, last int64) []byte {
	return binary.BigEndian.AppendUint64(spaceKey(famData, id, gen), uint64(last))
}

func timeKey(id ReplicaID, gen uint64, maxTimestamp, last int64) []byte {
	k := binary.BigEndian.AppendUint64(spaceKey(famTime, id, gen), orderedInt64(maxTimestamp))
	return binary.BigEndian.AppendUint64(k, uint64(last))
}

func producerKey(id ReplicaID, gen uint64, producer int64, slot uint8) []byte {
	k := binary.BigEndian.AppendUint64(spaceKey(famProducer, id, gen), orderedInt64(producer))
	return append(k, slot)
}

func epochKey(id ReplicaID, gen uint64, epoch int32) []byte {
	return binary.BigEndian.AppendUint32(spaceKey(famEpoch, id, gen), uint32(epoch)^(1<<31))
}

func pairKey(id ReplicaID, gen uint64, key []byte) []byte {
	return append(spaceKey(famPair, id, gen), key...)
}

// orderedInt64 maps negative numbers below positive ones in byte order.
func orderedInt64(v int64) uint64 { return uint64(v) ^ (1 << 63) }

func fromOrderedInt64(u uint64) int64 { return int64(u ^ (1 << 63)) }

// after returns the smallest key that is above every key with the prefix; nil
// when there is none. It works in place.
func after(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		prefix[i]++
		if prefix[i] != 0 {
			return prefix[:i+1]
		}
	}
	return nil
}

// generationOf reads the generation out of a key of a key space.
func generationOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[replicaLen:]) }

// replicaOf reads the replica out of any key.
func replicaOf(key []byte) (ReplicaID, bool) {
	if len(key) < replicaLen {
		return ReplicaID{}, false
	}
	return ReplicaID{
		Shard:   binary.BigEndian.Uint64(key[2:]),
		Replica: binary.BigEndian.Uint64(key[10:]),
	}, true
}
