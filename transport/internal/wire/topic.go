package wire

import (
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/transport/internal/mqpb"
)

// Metadata converts what Metadata moves.
var Metadata = Codec[api.MetadataRequest, api.MetadataResponse, mqpb.MetadataRequest, mqpb.MetadataResponse]{
	encodeRequest: func(q *api.MetadataRequest) *mqpb.MetadataRequest {
		return &mqpb.MetadataRequest{Topics: encodeTopicNames(q.Topics), AutoCreate: q.AutoCreate}
	},
	decodeRequest: func(_ *checker, m *mqpb.MetadataRequest) *api.MetadataRequest {
		return &api.MetadataRequest{Topics: decodeTopicNames(m.GetTopics()), AutoCreate: m.GetAutoCreate()}
	},
	encodeAnswer: func(a *api.MetadataResponse) *mqpb.MetadataResponse {
		return &mqpb.MetadataResponse{
			ClusterId:  a.ClusterID,
			Controller: a.Controller,
			Version:    a.Version,
			Brokers:    encodeList(a.Brokers, encodeBrokerInfo),
			Topics:     encodeList(a.Topics, encodeTopicInfo),
		}
	},
	decodeAnswer: func(k *checker, m *mqpb.MetadataResponse) *api.MetadataResponse {
		return &api.MetadataResponse{
			ClusterID:  m.GetClusterId(),
			Controller: m.GetController(),
			Version:    m.GetVersion(),
			Brokers:    decodeList(m.GetBrokers(), decodeBrokerInfo),
			Topics:     decodeList(m.GetTopics(), k.topicInfo),
		}
	},
}

// CreateTopic converts what CreateTopic moves.
var CreateTopic = Codec[api.CreateTopicRequest, api.CreateTopicResponse, mqpb.CreateTopicRequest, mqpb.CreateTopicResponse]{
	encodeRequest: func(q *api.CreateTopicRequest) *mqpb.CreateTopicRequest {
		return &mqpb.CreateTopicRequest{
			Name:              q.Name,
			Partitions:        q.Partitions,
			ReplicationFactor: int32(q.ReplicationFactor),
			Configs:           q.Configs,
			ValidateOnly:      q.ValidateOnly,
		}
	},
	decodeRequest: func(k *checker, m *mqpb.CreateTopicRequest) *api.CreateTopicRequest {
		return &api.CreateTopicRequest{
			Name:              m.GetName(),
			Partitions:        m.GetPartitions(),
			ReplicationFactor: k.int16("replication factor", m.GetReplicationFactor()),
			Configs:           m.GetConfigs(),
			ValidateOnly:      m.GetValidateOnly(),
		}
	},
	encodeAnswer: func(a *api.CreateTopicResponse) *mqpb.CreateTopicResponse {
		return &mqpb.CreateTopicResponse{Topic: encodeTopicInfo(&a.Topic)}
	},
	decodeAnswer: func(k *checker, m *mqpb.CreateTopicResponse) *api.CreateTopicResponse {
		return &api.CreateTopicResponse{Topic: k.topicInfo(m.GetTopic())}
	},
}

// DeleteTopic converts what DeleteTopic moves.
var DeleteTopic = Codec[api.DeleteTopicRequest, api.DeleteTopicResponse, mqpb.DeleteTopicRequest, mqpb.DeleteTopicResponse]{
	encodeRequest: func(q *api.DeleteTopicRequest) *mqpb.DeleteTopicRequest {
		return &mqpb.DeleteTopicRequest{Name: q.Name, Id: encodeUUID(&q.ID)}
	},
	decodeRequest: func(k *checker, m *mqpb.DeleteTopicRequest) *api.DeleteTopicRequest {
		return &api.DeleteTopicRequest{Name: m.GetName(), ID: k.uuid(m.GetId())}
	},
	encodeAnswer: func(*api.DeleteTopicResponse) *mqpb.DeleteTopicResponse { return &mqpb.DeleteTopicResponse{} },
	decodeAnswer: func(*checker, *mqpb.DeleteTopicResponse) *api.DeleteTopicResponse {
		return &api.DeleteTopicResponse{}
	},
}

// AlterTopic converts what AlterTopic moves.
var AlterTopic = Codec[api.AlterTopicRequest, api.AlterTopicResponse, mqpb.AlterTopicRequest, mqpb.AlterTopicResponse]{
	encodeRequest: func(q *api.AlterTopicRequest) *mqpb.AlterTopicRequest {
		return &mqpb.AlterTopicRequest{Name: q.Name, Set: q.Set, Reset_: q.Reset, ValidateOnly: q.ValidateOnly}
	},
	decodeRequest: func(_ *checker, m *mqpb.AlterTopicRequest) *api.AlterTopicRequest {
		return &api.AlterTopicRequest{Name: m.GetName(), Set: m.GetSet(), Reset: m.GetReset_(), ValidateOnly: m.GetValidateOnly()}
	},
	encodeAnswer: func(a *api.AlterTopicResponse) *mqpb.AlterTopicResponse {
		return &mqpb.AlterTopicResponse{Topic: encodeTopicInfo(&a.Topic)}
	},
	decodeAnswer: func(k *checker, m *mqpb.AlterTopicResponse) *api.AlterTopicResponse {
		return &api.AlterTopicResponse{Topic: k.topicInfo(m.GetTopic())}
	},
}

// AddPartitions converts what AddPartitions moves.
var AddPartitions = Codec[api.AddPartitionsRequest, api.AddPartitionsResponse, mqpb.AddPartitionsRequest, mqpb.AddPartitionsResponse]{
	encodeRequest: func(q *api.AddPartitionsRequest) *mqpb.AddPartitionsRequest {
		return &mqpb.AddPartitionsRequest{Name: q.Name, Total: q.Total, ValidateOnly: q.ValidateOnly}
	},
	decodeRequest: func(_ *checker, m *mqpb.AddPartitionsRequest) *api.AddPartitionsRequest {
		return &api.AddPartitionsRequest{Name: m.GetName(), Total: m.GetTotal(), ValidateOnly: m.GetValidateOnly()}
	},
	encodeAnswer: func(a *api.AddPartitionsResponse) *mqpb.AddPartitionsResponse {
		return &mqpb.AddPartitionsResponse{Topic: encodeTopicInfo(&a.Topic)}
	},
	decodeAnswer: func(k *checker, m *mqpb.AddPartitionsResponse) *api.AddPartitionsResponse {
		return &api.AddPartitionsResponse{Topic: k.topicInfo(m.GetTopic())}
	},
}

// TrimTopic converts what TrimTopic moves.
var TrimTopic = Codec[api.TrimTopicRequest, api.TrimTopicResponse, mqpb.TrimTopicRequest, mqpb.TrimTopicResponse]{
	encodeRequest: func(q *api.TrimTopicRequest) *mqpb.TrimTopicRequest {
		return &mqpb.TrimTopicRequest{Partitions: encodeList(q.Partitions, encodeTrimPartition)}
	},
	decodeRequest: func(k *checker, m *mqpb.TrimTopicRequest) *api.TrimTopicRequest {
		return &api.TrimTopicRequest{Partitions: decodeList(m.GetPartitions(), k.trimPartition)}
	},
	encodeAnswer: func(a *api.TrimTopicResponse) *mqpb.TrimTopicResponse {
		return &mqpb.TrimTopicResponse{Partitions: encodeList(a.Partitions, encodeTrimResult)}
	},
	decodeAnswer: func(k *checker, m *mqpb.TrimTopicResponse) *api.TrimTopicResponse {
		return &api.TrimTopicResponse{Partitions: decodeList(m.GetPartitions(), k.trimResult)}
	},
}

// encodeTopicNames keeps nil, which means all, apart from empty.
func encodeTopicNames(names []string) *mqpb.TopicNames {
	if names == nil {
		return nil
	}
	return &mqpb.TopicNames{Names: names}
}

func decodeTopicNames(m *mqpb.TopicNames) []string {
	if m == nil {
		return nil
	}
	return append([]string{}, m.GetNames()...)
}

func encodeBrokerInfo(b *api.BrokerInfo) *mqpb.BrokerInfo {
	return &mqpb.BrokerInfo{Id: b.ID, Addr: b.Addr, Rack: b.Rack}
}

func decodeBrokerInfo(m *mqpb.BrokerInfo) api.BrokerInfo {
	return api.BrokerInfo{ID: m.GetId(), Addr: m.GetAddr(), Rack: m.GetRack()}
}

func encodeTopicInfo(t *api.TopicInfo) *mqpb.TopicInfo {
	return &mqpb.TopicInfo{
		Name:       t.Name,
		Id:         encodeUUID(&t.ID),
		Partitions: encodeList(t.Partitions, encodePartitionInfo),
		Configs:    t.Configs,
		Error:      EncodeError(t.Err),
	}
}

func (k *checker) topicInfo(m *mqpb.TopicInfo) api.TopicInfo {
	return api.TopicInfo{
		Name:       m.GetName(),
		ID:         k.uuid(m.GetId()),
		Partitions: decodeList(m.GetPartitions(), decodePartitionInfo),
		Configs:    m.GetConfigs(),
		Err:        DecodeError(m.GetError()),
	}
}

func encodePartitionInfo(p *api.PartitionInfo) *mqpb.PartitionInfo {
	return &mqpb.PartitionInfo{
		Index:       p.Index,
		Leader:      p.Leader,
		LeaderEpoch: p.LeaderEpoch,
		Replicas:    p.Replicas,
		Learners:    p.Learners,
		Error:       EncodeError(p.Err),
	}
}

func decodePartitionInfo(m *mqpb.PartitionInfo) api.PartitionInfo {
	return api.PartitionInfo{
		Index:       m.GetIndex(),
		Leader:      m.GetLeader(),
		LeaderEpoch: m.GetLeaderEpoch(),
		Replicas:    m.GetReplicas(),
		Learners:    m.GetLearners(),
		Err:         DecodeError(m.GetError()),
	}
}

func encodeTrimPartition(p *api.TrimPartition) *mqpb.TrimPartition {
	return &mqpb.TrimPartition{TopicPartition: encodeTopicPartition(&p.TopicPartition), Offset: p.Offset}
}

func (k *checker) trimPartition(m *mqpb.TrimPartition) api.TrimPartition {
	return api.TrimPartition{TopicPartition: k.topicPartition(m.GetTopicPartition()), Offset: m.GetOffset()}
}

func encodeTrimResult(r *api.TrimResult) *mqpb.TrimResult {
	return &mqpb.TrimResult{TopicPartition: encodeTopicPartition(&r.TopicPartition), LogStart: r.LogStart, Error: EncodeError(r.Err)}
}

func (k *checker) trimResult(m *mqpb.TrimResult) api.TrimResult {
	return api.TrimResult{TopicPartition: k.topicPartition(m.GetTopicPartition()), LogStart: m.GetLogStart(), Err: DecodeError(m.GetError())}
}
