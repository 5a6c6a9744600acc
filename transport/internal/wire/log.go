package wire

import (
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/transport/internal/mqpb"
)

// ListOffsets converts what ListOffsets moves.
var ListOffsets = Codec[api.ListOffsetsRequest, api.ListOffsetsResponse, mqpb.ListOffsetsRequest, mqpb.ListOffsetsResponse]{
	encodeRequest: func(q *api.ListOffsetsRequest) *mqpb.ListOffsetsRequest {
		return &mqpb.ListOffsetsRequest{
			Isolation:  int32(q.Isolation),
			Partitions: encodeList(q.Partitions, encodeListOffsetsPartition),
		}
	},
	decodeRequest: func(k *checker, m *mqpb.ListOffsetsRequest) *api.ListOffsetsRequest {
		return &api.ListOffsetsRequest{
			Isolation:  k.int8("isolation", m.GetIsolation()),
			Partitions: decodeList(m.GetPartitions(), k.listOffsetsPartition),
		}
	},
	encodeAnswer: func(a *api.ListOffsetsResponse) *mqpb.ListOffsetsResponse {
		return &mqpb.ListOffsetsResponse{Partitions: encodeList(a.Partitions, encodeListOffsetsResult)}
	},
	decodeAnswer: func(k *checker, m *mqpb.ListOffsetsResponse) *api.ListOffsetsResponse {
		return &api.ListOffsetsResponse{Partitions: decodeList(m.GetPartitions(), k.listOffsetsResult)}
	},
}

// EpochEnds converts what EpochEnds moves.
var EpochEnds = Codec[api.EpochEndsRequest, api.EpochEndsResponse, mqpb.EpochEndsRequest, mqpb.EpochEndsResponse]{
	encodeRequest: func(q *api.EpochEndsRequest) *mqpb.EpochEndsRequest {
		return &mqpb.EpochEndsRequest{Partitions: encodeList(q.Partitions, encodeEpochEndsPartition)}
	},
	decodeRequest: func(k *checker, m *mqpb.EpochEndsRequest) *api.EpochEndsRequest {
		return &api.EpochEndsRequest{Partitions: decodeList(m.GetPartitions(), k.epochEndsPartition)}
	},
	encodeAnswer: func(a *api.EpochEndsResponse) *mqpb.EpochEndsResponse {
		return &mqpb.EpochEndsResponse{Partitions: encodeList(a.Partitions, encodeEpochEndsResult)}
	},
	decodeAnswer: func(k *checker, m *mqpb.EpochEndsResponse) *api.EpochEndsResponse {
		return &api.EpochEndsResponse{Partitions: decodeList(m.GetPartitions(), k.epochEndsResult)}
	},
}

// DescribeLogs converts what DescribeLogs moves.
var DescribeLogs = Codec[api.DescribeLogsRequest, api.DescribeLogsResponse, mqpb.DescribeLogsRequest, mqpb.DescribeLogsResponse]{
	encodeRequest: func(q *api.DescribeLogsRequest) *mqpb.DescribeLogsRequest {
		return &mqpb.DescribeLogsRequest{Topics: encodeTopicNames(q.Topics)}
	},
	decodeRequest: func(_ *checker, m *mqpb.DescribeLogsRequest) *api.DescribeLogsRequest {
		return &api.DescribeLogsRequest{Topics: decodeTopicNames(m.GetTopics())}
	},
	encodeAnswer: func(a *api.DescribeLogsResponse) *mqpb.DescribeLogsResponse {
		return &mqpb.DescribeLogsResponse{Logs: encodeList(a.Logs, encodeLogInfo)}
	},
	decodeAnswer: func(k *checker, m *mqpb.DescribeLogsResponse) *api.DescribeLogsResponse {
		return &api.DescribeLogsResponse{Logs: decodeList(m.GetLogs(), k.logInfo)}
	},
}

func encodeListOffsetsPartition(p *api.ListOffsetsPartition) *mqpb.ListOffsetsPartition {
	return &mqpb.ListOffsetsPartition{TopicPartition: encodeTopicPartition(&p.TopicPartition), Timestamp: p.Timestamp}
}

func (k *checker) listOffsetsPartition(m *mqpb.ListOffsetsPartition) api.ListOffsetsPartition {
	return api.ListOffsetsPartition{TopicPartition: k.topicPartition(m.GetTopicPartition()), Timestamp: m.GetTimestamp()}
}

func encodeListOffsetsResult(r *api.ListOffsetsResult) *mqpb.ListOffsetsResult {
	return &mqpb.ListOffsetsResult{
		TopicPartition: encodeTopicPartition(&r.TopicPartition),
		Offset:         r.Offset,
		Timestamp:      r.Timestamp,
		LeaderEpoch:    r.LeaderEpoch,
		Error:          EncodeError(r.Err),
	}
}

func (k *checker) listOffsetsResult(m *mqpb.ListOffsetsResult) api.ListOffsetsResult {
	return api.ListOffsetsResult{
		TopicPartition: k.topicPartition(m.GetTopicPartition()),
		Offset:         m.GetOffset(),
		Timestamp:      m.GetTimestamp(),
		LeaderEpoch:    m.GetLeaderEpoch(),
		Err:            DecodeError(m.GetError()),
	}
}

func encodeEpochEndsPartition(p *api.EpochEndsPartition) *mqpb.EpochEndsPartition {
	return &mqpb.EpochEndsPartition{TopicPartition: encodeTopicPartition(&p.TopicPartition), LeaderEpoch: p.LeaderEpoch}
}

func (k *checker) epochEndsPartition(m *mqpb.EpochEndsPartition) api.EpochEndsPartition {
	return api.EpochEndsPartition{TopicPartition: k.topicPartition(m.GetTopicPartition()), LeaderEpoch: m.GetLeaderEpoch()}
}

func encodeEpochEndsResult(r *api.EpochEndsResult) *mqpb.EpochEndsResult {
	return &mqpb.EpochEndsResult{
		TopicPartition: encodeTopicPartition(&r.TopicPartition),
		LeaderEpoch:    r.LeaderEpoch,
		EndOffset:      r.EndOffset,
		Error:          EncodeError(r.Err),
	}
}

func (k *checker) epochEndsResult(m *mqpb.EpochEndsResult) api.EpochEndsResult {
	return api.EpochEndsResult{
		TopicPartition: k.topicPartition(m.GetTopicPartition()),
		LeaderEpoch:    m.GetLeaderEpoch(),
		EndOffset:      m.GetEndOffset(),
		Err:            DecodeError(m.GetError()),
	}
}

func encodeLogInfo(l *api.LogInfo) *mqpb.LogInfo {
	return &mqpb.LogInfo{
		TopicPartition: encodeTopicPartition(&l.TopicPartition),
		LogStart:       l.LogStart,
		HighWatermark:  l.HighWatermark,
		SizeBytes:      l.SizeBytes,
		LeaderEpoch:    l.LeaderEpoch,
		Leader:         l.Leader,
		Error:          EncodeError(l.Err),
	}
}

func (k *checker) logInfo(m *mqpb.LogInfo) api.LogInfo {
	return api.LogInfo{
		TopicPartition: k.topicPartition(m.GetTopicPartition()),
		LogStart:       m.GetLogStart(),
		HighWatermark:  m.GetHighWatermark(),
		SizeBytes:      m.GetSizeBytes(),
		LeaderEpoch:    m.GetLeaderEpoch(),
		Leader:         m.GetLeader(),
		Err:            DecodeError(m.GetError()),
	}
}
