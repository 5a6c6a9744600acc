// Package record encodes, checks and decodes Kafka RecordBatch v2, the unit in
// which records travel from producer to raft log to store to consumer
// unchanged.
package record
