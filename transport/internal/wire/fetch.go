package wire

import (
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/transport/internal/mqpb"
)

// Fetch converts what Fetch moves.
var Fetch = Codec[api.FetchRequest, api.FetchResponse, mqpb.FetchRequest, mqpb.FetchResponse]{
	encodeRequest: func(q *api.FetchRequest) *mqpb.FetchRequest {
		return &mqpb.FetchRequest{
			MaxWait:    encodeDuration(q.MaxWait),
			MinBytes:   int64(q.MinBytes),
			MaxBytes:   int64(q.MaxBytes),
			Isolation:  int32(q.Isolation),
			Follower:   q.Follower,
			Partitions: encodeList(q.Partitions, encodeFetchPartition),
		}
	},
	decodeRequest: func(k *checker, m *mqpb.FetchRequest) *api.FetchRequest {
		return &api.FetchRequest{
			MaxWait:    m.GetMaxWait().AsDuration(),
			MinBytes:   size(m.GetMinBytes()),
			MaxBytes:   size(m.GetMaxBytes()),
			Isolation:  k.int8("isolation", m.GetIsolation()),
			Follower:   m.GetFollower(),
			Partitions: decodeList(m.GetPartitions(), k.fetchPartition),
		}
	},
	encodeAnswer: func(a *api.FetchResponse) *mqpb.FetchResponse {
		return &mqpb.FetchResponse{Partitions: encodeList(a.Partitions, encodeFetchResult)}
	},
	decodeAnswer: func(k *checker, m *mqpb.FetchResponse) *api.FetchResponse {
		return &api.FetchResponse{Partitions: decodeList(m.GetPartitions(), k.fetchResult)}
	},
}

func encodeFetchPartition(p *api.FetchPartition) *mqpb.FetchPartition {
	return &mqpb.FetchPartition{
		TopicPartition: encodeTopicPartition(&p.TopicPartition),
		Offset:         p.Offset,
		LeaderEpoch:    present(&p.LeaderEpoch, api.NoEpoch),
		MaxBytes:       int64(p.MaxBytes),
	}
}

func (k *checker) fetchPartition(m *mqpb.FetchPartition) api.FetchPartition {
	return api.FetchPartition{
		TopicPartition: k.topicPartition(m.GetTopicPartition()),
		Offset:         m.GetOffset(),
		LeaderEpoch:    valueOr(m.LeaderEpoch, api.NoEpoch),
		MaxBytes:       size(m.GetMaxBytes()),
	}
}

func encodeFetchResult(r *api.FetchResult) *mqpb.FetchResult {
	return &mqpb.FetchResult{
		TopicPartition:   encodeTopicPartition(&r.TopicPartition),
		HighWatermark:    r.HighWatermark,
		LastStableOffset: r.LastStableOffset,
		LogStart:         r.LogStart,
		LeaderEpoch:      r.LeaderEpoch,
		Aborted:          encodeList(r.Aborted, encodeAbortedTxn),
		Batches:          r.Batches,
		Error:            EncodeError(r.Err),
	}
}

func (k *checker) fetchResult(m *mqpb.FetchResult) api.FetchResult {
	return api.FetchResult{
		TopicPartition:   k.topicPartition(m.GetTopicPartition()),
		HighWatermark:    m.GetHighWatermark(),
		LastStableOffset: m.GetLastStableOffset(),
		LogStart:         m.GetLogStart(),
		LeaderEpoch:      m.GetLeaderEpoch(),
		Aborted:          decodeList(m.GetAborted(), decodeAbortedTxn),
		Batches:          m.GetBatches(),
		Err:              DecodeError(m.GetError()),
	}
}

func encodeAbortedTxn(t *api.AbortedTxn) *mqpb.AbortedTxn {
	return &mqpb.AbortedTxn{ProducerId: t.ProducerID, FirstOffset: t.FirstOffset}
}

func decodeAbortedTxn(m *mqpb.AbortedTxn) api.AbortedTxn {
	return api.AbortedTxn{ProducerID: m.GetProducerId(), FirstOffset: m.GetFirstOffset()}
}
