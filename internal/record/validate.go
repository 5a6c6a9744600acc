package record

import (
	"fmt"

	"github.com/raftmq/mq/internal/mqerr"
)

// Validate decides whether a broker takes b from a producer: exactly one batch
// of at most maxBytes (0 or less: no limit), intact, and with a header that
// makes sense. The records stay unread; a producer that wrote nonsense into
// them finds it at its consumers. Errors:
//
//   - ErrRecordTooLarge: above maxBytes
//   - ErrCorruptBatch: cut off, or the CRC does not fit
//   - ErrUnsupportedVersion: magic above 2
//   - ErrUnsupportedCompression: a codec nobody knows
//   - ErrInvalidRecord: no batch or several, magic below 2, a count that is
//     not positive or differs from the offsets, marks that only brokers set
//     (control, LogAppendTime), a producer id without epoch or sequence
//
// Whether Transactional batches are welcome is for the caller to decide.
// Base offset and leader epoch are ignored: clients differ in what they send.
// Kafka: LogValidator, UnifiedLog.analyzeAndValidateRecords.
func Validate(b []byte, maxBytes int) (Info, error) {
	if len(b) == 0 {
		return Info{}, fmt.Errorf("%w: no batch", mqerr.ErrInvalidRecord)
	}
	if maxBytes > 0 && len(b) > maxBytes {
		return Info{}, fmt.Errorf("%w: batch of %d bytes, limit %d", mqerr.ErrRecordTooLarge, len(b), maxBytes)
	}
	info, err := Parse(b)
	if err != nil {
		return Info{}, err
	}
	if info.Size != len(b) {
		return Info{}, fmt.Errorf("%w: %d bytes after the batch", mqerr.ErrInvalidRecord, len(b)-info.Size)
	}
	if err := checkCRC(b); err != nil {
		return Info{}, err
	}
	if err := checkProduced(info); err != nil {
		return Info{}, err
	}
	return info, nil
}

func checkProduced(i Info) error {
	switch {
	case !i.Codec.known():
		return fmt.Errorf("%w: codec %d", mqerr.ErrUnsupportedCompression, i.Codec)
	case i.Control:
		return fmt.Errorf("%w: control batch from a client", mqerr.ErrInvalidRecord)
	case i.LogAppendTime:
		return fmt.Errorf("%w: LogAppendTime set by a client", mqerr.ErrInvalidRecord)
	case i.Count <= 0 || i.LastOffsetDelta != i.Count-1:
		return fmt.Errorf("%w: %d records, last offset delta %d", mqerr.ErrInvalidRecord, i.Count, i.LastOffsetDelta)
	case i.ProducerID < NoProducerID:
		return fmt.Errorf("%w: producer id %d", mqerr.ErrInvalidRecord, i.ProducerID)
	case i.ProducerID >= 0 && (i.ProducerEpoch < 0 || i.BaseSequence < 0):
		return fmt.Errorf("%w: producer id %d with epoch %d and sequence %d",
			mqerr.ErrInvalidRecord, i.ProducerID, i.ProducerEpoch, i.BaseSequence)
	}
	return nil
}
