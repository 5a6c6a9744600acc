package wire

import (
	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/transport/internal/mqpb"
)

// DescribeCluster converts what DescribeCluster moves.
var DescribeCluster = Codec[api.DescribeClusterRequest, api.DescribeClusterResponse, mqpb.DescribeClusterRequest, mqpb.DescribeClusterResponse]{
	encodeRequest: func(*api.DescribeClusterRequest) *mqpb.DescribeClusterRequest { return &mqpb.DescribeClusterRequest{} },
	decodeRequest: func(*checker, *mqpb.DescribeClusterRequest) *api.DescribeClusterRequest {
		return &api.DescribeClusterRequest{}
	},
	encodeAnswer: func(a *api.DescribeClusterResponse) *mqpb.DescribeClusterResponse {
		return &mqpb.DescribeClusterResponse{
			ClusterId:       a.ClusterID,
			Controller:      a.Controller,
			Brokers:         encodeList(a.Brokers, encodeBrokerState),
			Leaderless:      a.Leaderless,
			UnderReplicated: a.UnderReplicated,
			Diverged:        a.Diverged,
			FeatureLevel:    a.FeatureLevel,
		}
	},
	decodeAnswer: func(_ *checker, m *mqpb.DescribeClusterResponse) *api.DescribeClusterResponse {
		return &api.DescribeClusterResponse{
			ClusterID:       m.GetClusterId(),
			Controller:      m.GetController(),
			Brokers:         decodeList(m.GetBrokers(), decodeBrokerState),
			Leaderless:      m.GetLeaderless(),
			UnderReplicated: m.GetUnderReplicated(),
			Diverged:        m.GetDiverged(),
			FeatureLevel:    m.GetFeatureLevel(),
		}
	},
}

// RemoveBroker converts what RemoveBroker moves.
var RemoveBroker = Codec[api.RemoveBrokerRequest, api.RemoveBrokerResponse, mqpb.RemoveBrokerRequest, mqpb.RemoveBrokerResponse]{
	encodeRequest: func(q *api.RemoveBrokerRequest) *mqpb.RemoveBrokerRequest {
		return &mqpb.RemoveBrokerRequest{Id: q.ID}
	},
	decodeRequest: func(_ *checker, m *mqpb.RemoveBrokerRequest) *api.RemoveBrokerRequest {
		return &api.RemoveBrokerRequest{ID: m.GetId()}
	},
	encodeAnswer: func(*api.RemoveBrokerResponse) *mqpb.RemoveBrokerResponse { return &mqpb.RemoveBrokerResponse{} },
	decodeAnswer: func(*checker, *mqpb.RemoveBrokerResponse) *api.RemoveBrokerResponse {
		return &api.RemoveBrokerResponse{}
	},
}

// TransferLeader converts what TransferLeader moves.
var TransferLeader = Codec[api.TransferLeaderRequest, api.TransferLeaderResponse, mqpb.TransferLeaderRequest, mqpb.TransferLeaderResponse]{
	encodeRequest: func(q *api.TransferLeaderRequest) *mqpb.TransferLeaderRequest {
		return &mqpb.TransferLeaderRequest{TopicPartition: encodeTopicPartition(&q.TopicPartition), To: q.To}
	},
	decodeRequest: func(k *checker, m *mqpb.TransferLeaderRequest) *api.TransferLeaderRequest {
		return &api.TransferLeaderRequest{TopicPartition: k.topicPartition(m.GetTopicPartition()), To: m.GetTo()}
	},
	encodeAnswer: func(*api.TransferLeaderResponse) *mqpb.TransferLeaderResponse { return &mqpb.TransferLeaderResponse{} },
	decodeAnswer: func(*checker, *mqpb.TransferLeaderResponse) *api.TransferLeaderResponse {
		return &api.TransferLeaderResponse{}
	},
}

// MoveReplica converts what MoveReplica moves.
var MoveReplica = Codec[api.MoveReplicaRequest, api.MoveReplicaResponse, mqpb.MoveReplicaRequest, mqpb.MoveReplicaResponse]{
	encodeRequest: func(q *api.MoveReplicaRequest) *mqpb.MoveReplicaRequest {
		return &mqpb.MoveReplicaRequest{TopicPartition: encodeTopicPartition(&q.TopicPartition), From: q.From, To: q.To}
	},
	decodeRequest: func(k *checker, m *mqpb.MoveReplicaRequest) *api.MoveReplicaRequest {
		return &api.MoveReplicaRequest{TopicPartition: k.topicPartition(m.GetTopicPartition()), From: m.GetFrom(), To: m.GetTo()}
	},
	encodeAnswer: func(*api.MoveReplicaResponse) *mqpb.MoveReplicaResponse { return &mqpb.MoveReplicaResponse{} },
	decodeAnswer: func(*checker, *mqpb.MoveReplicaResponse) *api.MoveReplicaResponse { return &api.MoveReplicaResponse{} },
}

func encodeBrokerState(b *api.BrokerState) *mqpb.BrokerState {
	return &mqpb.BrokerState{
		Broker:        encodeBrokerInfo(&b.BrokerInfo),
		PeerAddr:      b.PeerAddr,
		DirectoryId:   b.DirectoryID,
		MetadataVoter: b.MetadataVoter,
		Replicas:      b.Replicas,
		Leaders:       b.Leaders,
		Behind:        b.Behind,
		Waiting:       b.Waiting,
		Fenced:        b.Fenced,
		Error:         EncodeError(b.Err),
		Leaving:       b.Leaving,
		FeatureLevel:  b.FeatureLevel,
		Damaged:       b.Damaged,
	}
}

func decodeBrokerState(m *mqpb.BrokerState) api.BrokerState {
	return api.BrokerState{
		BrokerInfo:    decodeBrokerInfo(m.GetBroker()),
		PeerAddr:      m.GetPeerAddr(),
		DirectoryID:   m.GetDirectoryId(),
		MetadataVoter: m.GetMetadataVoter(),
		Replicas:      m.GetReplicas(),
		Leaders:       m.GetLeaders(),
		Behind:        m.GetBehind(),
		Waiting:       m.GetWaiting(),
		Fenced:        m.GetFenced(),
		Err:           DecodeError(m.GetError()),
		Leaving:       m.GetLeaving(),
		FeatureLevel:  m.GetFeatureLevel(),
		Damaged:       m.GetDamaged(),
	}
}
