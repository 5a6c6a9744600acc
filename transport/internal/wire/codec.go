package wire

import (
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport/internal/mqpb"
)

// Codec converts the requests Q and answers A of one method of api.Broker to
// and from their messages MQ and MA.
type Codec[Q, A, MQ, MA any] struct {
	encodeRequest func(*Q) *MQ
	decodeRequest func(*checker, *MQ) *Q
	encodeAnswer  func(*A) *MA
	decodeAnswer  func(*checker, *MA) *A
}

// EncodeRequest makes the message of a request.
func (c Codec[Q, A, MQ, MA]) EncodeRequest(q *Q) *MQ { return c.encodeRequest(q) }

// EncodeAnswer makes the message of an answer.
func (c Codec[Q, A, MQ, MA]) EncodeAnswer(a *A) *MA { return c.encodeAnswer(a) }

// DecodeRequest is the inverse of EncodeRequest. A message that is not a
// request, or was found to have more than MaxEntries entries, gives
// ErrInvalidRequest.
func (c Codec[Q, A, MQ, MA]) DecodeRequest(m *MQ) (*Q, error) {
	if isOverlong(m) {
		return nil, fmt.Errorf("%w: more than %d list entries", mqerr.ErrInvalidRequest, MaxEntries)
	}
	var k checker
	q := c.decodeRequest(&k, m)
	if k.err != nil {
		return nil, fmt.Errorf("%w: %w", mqerr.ErrInvalidRequest, k.err)
	}
	return q, nil
}

// DecodeAnswer is the inverse of EncodeAnswer. A message that is not an answer
// gives ErrInternal.
func (c Codec[Q, A, MQ, MA]) DecodeAnswer(m *MA) (*A, error) {
	var k checker
	a := c.decodeAnswer(&k, m)
	if k.err != nil {
		return nil, fmt.Errorf("%w: answer of the broker: %w", mqerr.ErrInternal, k.err)
	}
	return a, nil
}

// checker keeps the first fault found while a message is converted, so that
// the conversions read as plain struct literals.
type checker struct{ err error }

func (k *checker) fail(format string, args ...any) {
	if k.err == nil {
		k.err = fmt.Errorf(format, args...)
	}
}

func (k *checker) uuid(b []byte) uuid.UUID {
	switch len(b) {
	case 0:
		return uuid.Nil
	case len(uuid.UUID{}):
		return uuid.UUID(b)
	}
	k.fail("topic id of %d bytes", len(b))
	return uuid.Nil
}

func (k *checker) int16(field string, v int32) int16 {
	if v < math.MinInt16 || v > math.MaxInt16 {
		k.fail("%s %d is out of range", field, v)
	}
	return int16(v)
}

func (k *checker) int8(field string, v int32) int8 {
	if v < math.MinInt8 || v > math.MaxInt8 {
		k.fail("%s %d is out of range", field, v)
	}
	return int8(v)
}

func (k *checker) topicPartition(m *mqpb.TopicPartition) api.TopicPartition {
	return api.TopicPartition{Topic: m.GetTopic(), TopicID: k.uuid(m.GetTopicId()), Partition: m.GetPartition()}
}

func encodeTopicPartition(p *api.TopicPartition) *mqpb.TopicPartition {
	return &mqpb.TopicPartition{Topic: p.Topic, TopicId: encodeUUID(&p.TopicID), Partition: p.Partition}
}

func encodeUUID(id *uuid.UUID) []byte {
	if *id == uuid.Nil {
		return nil
	}
	return id[:]
}

func encodeDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// present makes a field that is absent when it holds the value for "none".
func present(v *int32, none int32) *int32 {
	if *v == none {
		return nil
	}
	return v
}

func valueOr(v *int32, none int32) int32 {
	if v == nil {
		return none
	}
	return *v
}

// size fits a byte count of the wire into an int, which is short on some
// machines.
func size(v int64) int { return int(max(math.MinInt, min(v, math.MaxInt))) }

func encodeList[T, M any](list []T, encode func(*T) *M) []*M {
	if len(list) == 0 {
		return nil
	}
	out := make([]*M, len(list))
	for i := range list {
		out[i] = encode(&list[i])
	}
	return out
}

func decodeList[M, T any](list []*M, decode func(*M) T) []T {
	if len(list) == 0 {
		return nil
	}
	out := make([]T, len(list))
	for i, m := range list {
		out[i] = decode(m)
	}
	return out
}
