package wire

import (
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/transport/internal/mqpb"
)

// GroupHeartbeat converts what GroupHeartbeat moves.
var GroupHeartbeat = Codec[api.GroupHeartbeatRequest, api.GroupHeartbeatResponse, mqpb.GroupHeartbeatRequest, mqpb.GroupHeartbeatResponse]{
	encodeRequest: func(q *api.GroupHeartbeatRequest) *mqpb.GroupHeartbeatRequest {
		return &mqpb.GroupHeartbeatRequest{
			Group:        q.Group,
			MemberId:     q.MemberID,
			MemberEpoch:  q.MemberEpoch,
			InstanceId:   q.InstanceID,
			ClientId:     q.ClientID,
			Subscription: encodeSubscription(&q.GroupSubscription),
			Owned:        encodePartitions(q.Owned),
			MaxWait:      encodeDuration(q.MaxWait),
		}
	},
	decodeRequest: func(k *checker, m *mqpb.GroupHeartbeatRequest) *api.GroupHeartbeatRequest {
		return &api.GroupHeartbeatRequest{
			Group:             m.GetGroup(),
			MemberID:          m.GetMemberId(),
			MemberEpoch:       m.GetMemberEpoch(),
			InstanceID:        m.GetInstanceId(),
			ClientID:          m.GetClientId(),
			GroupSubscription: decodeSubscription(m.GetSubscription()),
			Owned:             k.partitions(m.GetOwned()),
			MaxWait:           m.GetMaxWait().AsDuration(),
		}
	},
	encodeAnswer: func(a *api.GroupHeartbeatResponse) *mqpb.GroupHeartbeatResponse {
		return &mqpb.GroupHeartbeatResponse{
			MemberEpoch: a.MemberEpoch,
			Interval:    encodeDuration(a.Interval),
			Assignment:  encodePartitions(a.Assignment),
		}
	},
	decodeAnswer: func(k *checker, m *mqpb.GroupHeartbeatResponse) *api.GroupHeartbeatResponse {
		return &api.GroupHeartbeatResponse{
			MemberEpoch: m.GetMemberEpoch(),
			Interval:    m.GetInterval().AsDuration(),
			Assignment:  k.partitions(m.GetAssignment()),
		}
	},
}

// DescribeGroup converts what DescribeGroup moves.
var DescribeGroup = Codec[api.DescribeGroupRequest, api.DescribeGroupResponse, mqpb.DescribeGroupRequest, mqpb.DescribeGroupResponse]{
	encodeRequest: func(q *api.DescribeGroupRequest) *mqpb.DescribeGroupRequest {
		return &mqpb.DescribeGroupRequest{Group: q.Group}
	},
	decodeRequest: func(_ *checker, m *mqpb.DescribeGroupRequest) *api.DescribeGroupRequest {
		return &api.DescribeGroupRequest{Group: m.GetGroup()}
	},
	encodeAnswer: func(a *api.DescribeGroupResponse) *mqpb.DescribeGroupResponse {
		return &mqpb.DescribeGroupResponse{
			Group:           a.Group,
			State:           string(a.State),
			Coordinator:     a.Coordinator,
			Epoch:           a.Epoch,
			AssignmentEpoch: a.AssignmentEpoch,
			Assignor:        a.Assignor,
			Members:         encodeList(a.Members, encodeMember),
		}
	},
	decodeAnswer: func(k *checker, m *mqpb.DescribeGroupResponse) *api.DescribeGroupResponse {
		return &api.DescribeGroupResponse{
			Group:           m.GetGroup(),
			State:           api.GroupState(m.GetState()),
			Coordinator:     m.GetCoordinator(),
			Epoch:           m.GetEpoch(),
			AssignmentEpoch: m.GetAssignmentEpoch(),
			Assignor:        m.GetAssignor(),
			Members:         decodeList(m.GetMembers(), k.member),
		}
	},
}

// DeleteGroup converts what DeleteGroup moves.
var DeleteGroup = Codec[api.DeleteGroupRequest, api.DeleteGroupResponse, mqpb.DeleteGroupRequest, mqpb.DeleteGroupResponse]{
	encodeRequest: func(q *api.DeleteGroupRequest) *mqpb.DeleteGroupRequest {
		return &mqpb.DeleteGroupRequest{Group: q.Group}
	},
	decodeRequest: func(_ *checker, m *mqpb.DeleteGroupRequest) *api.DeleteGroupRequest {
		return &api.DeleteGroupRequest{Group: m.GetGroup()}
	},
	encodeAnswer: func(*api.DeleteGroupResponse) *mqpb.DeleteGroupResponse { return &mqpb.DeleteGroupResponse{} },
	decodeAnswer: func(*checker, *mqpb.DeleteGroupResponse) *api.DeleteGroupResponse { return &api.DeleteGroupResponse{} },
}

func encodeSubscription(s *api.GroupSubscription) *mqpb.GroupSubscription {
	return &mqpb.GroupSubscription{
		Topics:           s.Topics,
		Pattern:          s.Pattern,
		Assignor:         s.Assignor,
		SessionTimeout:   encodeDuration(s.SessionTimeout),
		RebalanceTimeout: encodeDuration(s.RebalanceTimeout),
	}
}

func decodeSubscription(m *mqpb.GroupSubscription) api.GroupSubscription {
	return api.GroupSubscription{
		Topics:           m.GetTopics(),
		Pattern:          m.GetPattern(),
		Assignor:         m.GetAssignor(),
		SessionTimeout:   m.GetSessionTimeout().AsDuration(),
		RebalanceTimeout: m.GetRebalanceTimeout().AsDuration(),
	}
}

func encodeMember(m *api.GroupMember) *mqpb.GroupMember {
	return &mqpb.GroupMember{
		MemberId:     m.MemberID,
		InstanceId:   m.InstanceID,
		ClientId:     m.ClientID,
		Epoch:        m.Epoch,
		Subscription: encodeSubscription(&m.GroupSubscription),
		Assigned:     encodePartitions(m.Assigned),
		Target:       encodePartitions(m.Target),
		Revoking:     encodePartitions(m.Revoking),
	}
}

func (k *checker) member(m *mqpb.GroupMember) api.GroupMember {
	return api.GroupMember{
		MemberID:          m.GetMemberId(),
		InstanceID:        m.GetInstanceId(),
		ClientID:          m.GetClientId(),
		Epoch:             m.GetEpoch(),
		GroupSubscription: decodeSubscription(m.GetSubscription()),
		Assigned:          k.partitions(m.GetAssigned()),
		Target:            k.partitions(m.GetTarget()),
		Revoking:          k.partitions(m.GetRevoking()),
	}
}

// encodePartitions names a topic once for all of its partitions that follow
// each other.
func encodePartitions(tps []api.TopicPartition) (out []*mqpb.PartitionsOfTopic) {
	for i := range tps {
		p := &tps[i]
		if i == 0 || p.Topic != tps[i-1].Topic || p.TopicID != tps[i-1].TopicID {
			out = append(out, &mqpb.PartitionsOfTopic{Topic: p.Topic, TopicId: encodeUUID(&p.TopicID)})
		}
		last := out[len(out)-1]
		last.Partitions = append(last.Partitions, p.Partition)
	}
	return out
}

// partitions bounds what a list takes: a partition is one byte on the wire and
// many behind it.
func (k *checker) partitions(list []*mqpb.PartitionsOfTopic) (tps []api.TopicPartition) {
	n := 0
	for _, m := range list {
		n += len(m.GetPartitions())
	}
	if n > MaxEntries {
		k.fail("%d partitions, at most %d", n, MaxEntries)
		return nil
	}
	for _, m := range list {
		id := k.uuid(m.GetTopicId())
		for _, p := range m.GetPartitions() {
			tps = append(tps, api.TopicPartition{Topic: m.GetTopic(), TopicID: id, Partition: p})
		}
	}
	return tps
}
