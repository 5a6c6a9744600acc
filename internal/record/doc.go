// Package record encodes, checks and decodes Kafka's RecordBatch v2, the unit
// in which records travel from producer to raft log to store to consumer. The
// bytes a producer built are the bytes a consumer reads; a broker only patches
// 12 of them, which Kafka placed outside the checksum for that purpose.
//
// A batch is a 61-byte header, big-endian, and its records. Numbers are byte
// offsets, "in" and "out" say whether the CRC covers the field:
//
//	 0  base offset           int64  out, set by the broker (Patch)
//	 8  length                int32  out, of what follows this field
//	12  partition leader epoch int32 out, set by the broker (Patch)
//	16  magic                 int8   out, 2
//	17  CRC-32C               uint32 of everything from byte 21 to the end
//	21  attributes            int16  in, codec in bits 0-2, then flags
//	23  last offset delta     int32  in
//	27  base timestamp        int64  in, of the first record, ms
//	35  max timestamp         int64  in, ms
//	43  producer id           int64  in, -1 for none
//	51  producer epoch        int16  in
//	53  base sequence         int32  in
//	57  record count          int32  in
//	61  records, compressed as one block when a codec is set
//
// A record is a zigzag varint length and then attributes (one unused byte),
// timestamp delta, offset delta, key, value and headers, each with varints.
//
// Writing: Builder. Checking: Parse reads a header, Validate decides whether a
// broker takes the batch, CheckCRC verifies content. Reading: Next splits
// batches that stand back to back, Records walks the records of one.
//
// Functions here keep no state and are safe for concurrent use; a Builder is
// not. Errors hold a sentinel of package mqerr. No input makes them panic or
// allocate more than a bound that the function names.
//
// Kafka: DefaultRecordBatch, DefaultRecord; KIP-98, KIP-82.
package record
