package wire

import (
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/transport/internal/mqpb"
)

// Produce converts what Produce moves, but for the correlation id and the
// error of a request that failed as a whole.
var Produce = Codec[api.ProduceRequest, api.ProduceResponse, mqpb.ProduceRequest, mqpb.ProduceResponse]{
	encodeRequest: func(q *api.ProduceRequest) *mqpb.ProduceRequest {
		acks := int32(q.Acks)
		return &mqpb.ProduceRequest{
			Acks:       &acks,
			Timeout:    encodeDuration(q.Timeout),
			Partitions: encodeList(q.Partitions, encodeProducePartition),
		}
	},
	decodeRequest: func(k *checker, m *mqpb.ProduceRequest) *api.ProduceRequest {
		return &api.ProduceRequest{
			Acks:       k.int16("acks", valueOr(m.Acks, int32(api.AcksAll))),
			Timeout:    m.GetTimeout().AsDuration(),
			Partitions: decodeList(m.GetPartitions(), k.producePartition),
		}
	},
	encodeAnswer: func(a *api.ProduceResponse) *mqpb.ProduceResponse {
		return &mqpb.ProduceResponse{Partitions: encodeList(a.Partitions, encodeProduceResult)}
	},
	decodeAnswer: func(k *checker, m *mqpb.ProduceResponse) *api.ProduceResponse {
		return &api.ProduceResponse{Partitions: decodeList(m.GetPartitions(), k.produceResult)}
	},
}

// InitProducer converts what InitProducer moves.
var InitProducer = Codec[api.InitProducerRequest, api.InitProducerResponse, mqpb.InitProducerRequest, mqpb.InitProducerResponse]{
	encodeRequest: func(*api.InitProducerRequest) *mqpb.InitProducerRequest { return &mqpb.InitProducerRequest{} },
	decodeRequest: func(*checker, *mqpb.InitProducerRequest) *api.InitProducerRequest {
		return &api.InitProducerRequest{}
	},
	encodeAnswer: func(a *api.InitProducerResponse) *mqpb.InitProducerResponse {
		return &mqpb.InitProducerResponse{ProducerId: a.ProducerID, Epoch: int32(a.Epoch)}
	},
	decodeAnswer: func(k *checker, m *mqpb.InitProducerResponse) *api.InitProducerResponse {
		return &api.InitProducerResponse{ProducerID: m.GetProducerId(), Epoch: k.int16("producer epoch", m.GetEpoch())}
	},
}

func encodeProducePartition(p *api.ProducePartition) *mqpb.ProducePartition {
	return &mqpb.ProducePartition{TopicPartition: encodeTopicPartition(&p.TopicPartition), Batch: p.Batch}
}

func (k *checker) producePartition(m *mqpb.ProducePartition) api.ProducePartition {
	return api.ProducePartition{TopicPartition: k.topicPartition(m.GetTopicPartition()), Batch: m.GetBatch()}
}

func encodeProduceResult(r *api.ProduceResult) *mqpb.ProduceResult {
	return &mqpb.ProduceResult{
		TopicPartition: encodeTopicPartition(&r.TopicPartition),
		BaseOffset:     r.BaseOffset,
		LogStart:       r.LogStart,
		AppendTime:     r.AppendTime,
		LeaderEpoch:    r.LeaderEpoch,
		Error:          EncodeError(r.Err),
	}
}

func (k *checker) produceResult(m *mqpb.ProduceResult) api.ProduceResult {
	return api.ProduceResult{
		TopicPartition: k.topicPartition(m.GetTopicPartition()),
		BaseOffset:     m.GetBaseOffset(),
		LogStart:       m.GetLogStart(),
		AppendTime:     m.GetAppendTime(),
		LeaderEpoch:    m.GetLeaderEpoch(),
		Err:            DecodeError(m.GetError()),
	}
}
