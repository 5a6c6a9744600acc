package wire

import (
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/transport/internal/mqpb"
)

// CommitOffsets converts what CommitOffsets moves.
var CommitOffsets = Codec[api.CommitOffsetsRequest, api.CommitOffsetsResponse, mqpb.CommitOffsetsRequest, mqpb.CommitOffsetsResponse]{
	encodeRequest: func(q *api.CommitOffsetsRequest) *mqpb.CommitOffsetsRequest {
		return &mqpb.CommitOffsetsRequest{
			Group:       q.Group,
			MemberId:    q.MemberID,
			MemberEpoch: present(&q.MemberEpoch, api.NoMemberEpoch),
			Force:       q.Force,
			Offsets:     encodeList(q.Offsets, encodeOffsetCommit),
		}
	},
	decodeRequest: func(k *checker, m *mqpb.CommitOffsetsRequest) *api.CommitOffsetsRequest {
		return &api.CommitOffsetsRequest{
			Group:       m.GetGroup(),
			MemberID:    m.GetMemberId(),
			MemberEpoch: valueOr(m.MemberEpoch, api.NoMemberEpoch),
			Force:       m.GetForce(),
			Offsets:     decodeList(m.GetOffsets(), k.offsetCommit),
		}
	},
	encodeAnswer: func(a *api.CommitOffsetsResponse) *mqpb.CommitOffsetsResponse {
		return &mqpb.CommitOffsetsResponse{Results: encodeList(a.Results, encodeCommitResult)}
	},
	decodeAnswer: func(k *checker, m *mqpb.CommitOffsetsResponse) *api.CommitOffsetsResponse {
		return &api.CommitOffsetsResponse{Results: decodeList(m.GetResults(), k.commitResult)}
	},
}

// FetchOffsets converts what FetchOffsets moves.
var FetchOffsets = Codec[api.FetchOffsetsRequest, api.FetchOffsetsResponse, mqpb.FetchOffsetsRequest, mqpb.FetchOffsetsResponse]{
	encodeRequest: func(q *api.FetchOffsetsRequest) *mqpb.FetchOffsetsRequest {
		m := &mqpb.FetchOffsetsRequest{Group: q.Group}
		if q.Partitions != nil {
			m.Partitions = &mqpb.TopicPartitions{List: encodeList(q.Partitions, encodeTopicPartition)}
		}
		return m
	},
	decodeRequest: func(k *checker, m *mqpb.FetchOffsetsRequest) *api.FetchOffsetsRequest {
		q := &api.FetchOffsetsRequest{Group: m.GetGroup()}
		if m.Partitions != nil {
			q.Partitions = append([]api.TopicPartition{}, decodeList(m.Partitions.GetList(), k.topicPartition)...)
		}
		return q
	},
	encodeAnswer: func(a *api.FetchOffsetsResponse) *mqpb.FetchOffsetsResponse {
		return &mqpb.FetchOffsetsResponse{Offsets: encodeList(a.Offsets, encodeCommittedOffset)}
	},
	decodeAnswer: func(k *checker, m *mqpb.FetchOffsetsResponse) *api.FetchOffsetsResponse {
		return &api.FetchOffsetsResponse{Offsets: decodeList(m.GetOffsets(), k.committedOffset)}
	},
}

// DeleteOffsets converts what DeleteOffsets moves.
var DeleteOffsets = Codec[api.DeleteOffsetsRequest, api.DeleteOffsetsResponse, mqpb.DeleteOffsetsRequest, mqpb.DeleteOffsetsResponse]{
	encodeRequest: func(q *api.DeleteOffsetsRequest) *mqpb.DeleteOffsetsRequest {
		return &mqpb.DeleteOffsetsRequest{Group: q.Group, Partitions: encodeList(q.Partitions, encodeTopicPartition)}
	},
	decodeRequest: func(k *checker, m *mqpb.DeleteOffsetsRequest) *api.DeleteOffsetsRequest {
		return &api.DeleteOffsetsRequest{Group: m.GetGroup(), Partitions: decodeList(m.GetPartitions(), k.topicPartition)}
	},
	encodeAnswer: func(a *api.DeleteOffsetsResponse) *mqpb.DeleteOffsetsResponse {
		return &mqpb.DeleteOffsetsResponse{Results: encodeList(a.Results, encodeCommitResult)}
	},
	decodeAnswer: func(k *checker, m *mqpb.DeleteOffsetsResponse) *api.DeleteOffsetsResponse {
		return &api.DeleteOffsetsResponse{Results: decodeList(m.GetResults(), k.commitResult)}
	},
}

// ListGroups converts what ListGroups moves.
var ListGroups = Codec[api.ListGroupsRequest, api.ListGroupsResponse, mqpb.ListGroupsRequest, mqpb.ListGroupsResponse]{
	encodeRequest: func(*api.ListGroupsRequest) *mqpb.ListGroupsRequest { return &mqpb.ListGroupsRequest{} },
	decodeRequest: func(*checker, *mqpb.ListGroupsRequest) *api.ListGroupsRequest { return &api.ListGroupsRequest{} },
	encodeAnswer: func(a *api.ListGroupsResponse) *mqpb.ListGroupsResponse {
		return &mqpb.ListGroupsResponse{Groups: encodeList(a.Groups, func(g *api.GroupInfo) *mqpb.GroupInfo {
			return &mqpb.GroupInfo{Group: g.Group, State: string(g.State), Members: g.Members}
		})}
	},
	decodeAnswer: func(_ *checker, m *mqpb.ListGroupsResponse) *api.ListGroupsResponse {
		return &api.ListGroupsResponse{Groups: decodeList(m.GetGroups(), func(m *mqpb.GroupInfo) api.GroupInfo {
			return api.GroupInfo{Group: m.GetGroup(), State: api.GroupState(m.GetState()), Members: m.GetMembers()}
		})}
	},
}

func encodeOffsetCommit(o *api.OffsetCommit) *mqpb.OffsetCommit {
	return &mqpb.OffsetCommit{
		TopicPartition: encodeTopicPartition(&o.TopicPartition),
		Offset:         o.Offset,
		LeaderEpoch:    present(&o.LeaderEpoch, api.NoEpoch),
		Metadata:       o.Metadata,
	}
}

func (k *checker) offsetCommit(m *mqpb.OffsetCommit) api.OffsetCommit {
	return api.OffsetCommit{
		TopicPartition: k.topicPartition(m.GetTopicPartition()),
		Offset:         m.GetOffset(),
		LeaderEpoch:    valueOr(m.LeaderEpoch, api.NoEpoch),
		Metadata:       m.GetMetadata(),
	}
}

func encodeCommitResult(r *api.CommitResult) *mqpb.CommitResult {
	return &mqpb.CommitResult{TopicPartition: encodeTopicPartition(&r.TopicPartition), Error: EncodeError(r.Err)}
}

func (k *checker) commitResult(m *mqpb.CommitResult) api.CommitResult {
	return api.CommitResult{TopicPartition: k.topicPartition(m.GetTopicPartition()), Err: DecodeError(m.GetError())}
}

func encodeCommittedOffset(o *api.CommittedOffset) *mqpb.CommittedOffset {
	return &mqpb.CommittedOffset{
		TopicPartition: encodeTopicPartition(&o.TopicPartition),
		Offset:         o.Offset,
		LeaderEpoch:    o.LeaderEpoch,
		MemberEpoch:    o.MemberEpoch,
		Metadata:       o.Metadata,
		CommitTime:     o.CommitTime,
		Error:          EncodeError(o.Err),
	}
}

func (k *checker) committedOffset(m *mqpb.CommittedOffset) api.CommittedOffset {
	return api.CommittedOffset{
		TopicPartition: k.topicPartition(m.GetTopicPartition()),
		Offset:         m.GetOffset(),
		LeaderEpoch:    m.GetLeaderEpoch(),
		MemberEpoch:    m.GetMemberEpoch(),
		Metadata:       m.GetMetadata(),
		CommitTime:     m.GetCommitTime(),
		Err:            DecodeError(m.GetError()),
	}
}
