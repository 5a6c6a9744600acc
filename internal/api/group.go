package api

import "time"

// Member epochs with a meaning of their own. KIP-848.
const (
	JoinEpoch        int32 = 0  // the member is new, or has lost all it had
	LeaveEpoch       int32 = -1 // the member leaves for good
	LeaveStaticEpoch int32 = -2 // the member will be back: its InstanceID keeps what it owns until the session ends
	NoMemberEpoch    int32 = -1 // in commits: no member, a consumer with fixed partitions
)

// GroupHeartbeatRequest is a sign of life of a member. It says everything about
// the member each time, so that one that got lost, or whose answer did, does
// no harm.
type GroupHeartbeatRequest struct {
	Group       string
	MemberID    string // chosen by the client, new with every consumer. KIP-1082
	MemberEpoch int32  // of the last answer, or JoinEpoch, LeaveEpoch, LeaveStaticEpoch
	InstanceID  string // empty: not a static member
	ClientID    string // for humans
	GroupSubscription

	// Owned is all that the member still reads. What it was told to give up, and
	// is not here, may go to others.
	Owned []TopicPartition

	// MaxWait is how long the answer may wait for news; 0 answers at once. The
	// wait is no sign of life: its beginning was.
	MaxWait time.Duration
}

// GroupSubscription is what a member wants.
type GroupSubscription struct {
	Topics  []string
	Pattern string // RE2, of whole topic names; beside Topics
	// Assignor is AssignUniform or AssignRange; empty means AssignUniform. The
	// one that most members ask for is used.
	Assignor string
	// SessionTimeout is after how long without a heartbeat the member is taken
	// for dead; 0 means the broker's default. Kafka: group.consumer.session.timeout.ms.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long the member may take to give up partitions; 0
	// means the broker's default. Kafka: max.poll.interval.ms, as used by KIP-848.
	RebalanceTimeout time.Duration
}

// Assignors.
const (
	AssignUniform = "uniform" // evenly, with as few moves as possible
	AssignRange   = "range"   // equal numbers of different topics go to the same member
)

// GroupHeartbeatResponse is what a member may own. It gives up the rest, says so
// in its next heartbeat, and may then get more.
type GroupHeartbeatResponse struct {
	MemberEpoch int32
	Interval    time.Duration // until the next heartbeat, at most
	Assignment  []TopicPartition
}

// CommitOffsetsRequest stores offsets of a group. MemberEpoch is NoMemberEpoch
// and MemberID empty for a consumer with fixed partitions, which is refused
// with ErrUnknownMember while the group has members, unless Force is set.
type CommitOffsetsRequest struct {
	Group       string
	MemberID    string
	MemberEpoch int32
	Force       bool
	Offsets     []OffsetCommit
}

// OffsetCommit is the next offset that the group will read in a partition.
type OffsetCommit struct {
	TopicPartition
	Offset      int64
	LeaderEpoch int32
	Metadata    string
}

// CommitOffsetsResponse has a result for each partition, in order.
type CommitOffsetsResponse struct {
	Results []CommitResult
}

// CommitResult is the outcome of one commit. ErrStaleMemberEpoch says that the
// member does not own the partition any more, or owned it before.
type CommitResult struct {
	TopicPartition
	Err error
}

// FetchOffsetsRequest reads offsets of a group. Partitions nil means all.
type FetchOffsetsRequest struct {
	Group      string
	Partitions []TopicPartition
}

// FetchOffsetsResponse lists committed offsets.
type FetchOffsetsResponse struct {
	Offsets []CommittedOffset
}

// CommittedOffset is what a group committed; Offset is -1 for nothing.
type CommittedOffset struct {
	TopicPartition
	Offset      int64
	LeaderEpoch int32
	MemberEpoch int32
	Metadata    string
	CommitTime  int64 // ms since 1970
	Err         error
}

// DeleteOffsetsRequest forgets offsets of a group.
type DeleteOffsetsRequest struct {
	Group      string
	Partitions []TopicPartition
}

// DeleteOffsetsResponse has a result for each partition, in order.
// ErrGroupSubscribed says that a member reads the topic.
type DeleteOffsetsResponse struct {
	Results []CommitResult
}

// ListGroupsRequest asks for all groups.
type ListGroupsRequest struct{}

// ListGroupsResponse lists groups by name.
type ListGroupsResponse struct {
	Groups []GroupInfo
}

// GroupInfo is a group.
type GroupInfo struct {
	Group   string
	State   GroupState
	Members int32
}

// GroupState is how a group is. Kafka: the states of a consumer group.
type GroupState string

// The states.
const (
	GroupEmpty       GroupState = "empty"       // no members, only offsets
	GroupReconciling GroupState = "reconciling" // partitions are on their way
	GroupStable      GroupState = "stable"      // every member has what it should have
)

// DescribeGroupRequest asks for one group. ErrUnknownGroup when there is none.
type DescribeGroupRequest struct {
	Group string
}

// DescribeGroupResponse is a group with its members, by id.
type DescribeGroupResponse struct {
	Group           string
	State           GroupState
	Coordinator     int32 // broker id
	Epoch           int32 // grows with every change of members, subscriptions and partitions
	AssignmentEpoch int32 // Epoch that the targets are of
	Assignor        string
	Members         []GroupMember
}

// GroupMember is a member of a group.
type GroupMember struct {
	MemberID   string
	InstanceID string
	ClientID   string
	Epoch      int32
	GroupSubscription
	Assigned []TopicPartition // what it may own now
	Target   []TopicPartition // what it will
	Revoking []TopicPartition // what it has yet to give up
}

// DeleteGroupRequest deletes a group. ErrNonEmptyGroup while it has members.
type DeleteGroupRequest struct {
	Group string
}

// DeleteGroupResponse is empty.
type DeleteGroupResponse struct{}
