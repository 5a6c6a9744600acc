// Package mqerr holds the errors that cross rooms and the wire. The root
// package exports every sentinel as mq.ErrX. Rooms add context with %w; the
// sentinel below decides the class, that is, what a caller may do next.
//
// One table (Table) serves both ends of the wire: the server writes the
// reason, the client finds the sentinel by it.
package mqerr

import (
	"errors"
	"fmt"
)

// Class says what a caller may do with an error.
type Class uint8

// The classes, from "give up" to "try again".
const (
	Fatal   Class = iota // F: this call can't succeed as it is
	Retry                // R: try again after a back-off; nothing happened
	Refresh              // M: refresh metadata, then try again; nothing happened
	Rejoin               // J: join the group again
	Unknown              // U: the outcome is unknown; repeat only what is idempotent
)

// String returns the class's letter in the documentation.
func (c Class) String() string {
	switch c {
	case Fatal:
		return "F"
	case Retry:
		return "R"
	case Refresh:
		return "M"
	case Rejoin:
		return "J"
	case Unknown:
		return "U"
	}
	return fmt.Sprintf("Class(%d)", uint8(c))
}

// Error is a sentinel: one row of the error table. Compare with errors.Is.
type Error struct {
	reason string // Kafka's error name, carried over the wire; "" for local errors
	class  Class
	code   uint32 // canonical gRPC status code, for humans and proxies only
	text   string
}

// Error implements error.
func (e *Error) Error() string { return e.text }

// Reason is the name that travels over the wire; empty for a local error.
func (e *Error) Reason() string { return e.reason }

// Class says what a caller may do next.
func (e *Error) Class() Class { return e.class }

// Code is the canonical gRPC status code number that goes with the reason.
func (e *Error) Code() uint32 { return e.code }

// Canonical gRPC code numbers (google.golang.org/grpc/codes), repeated here so
// that this leaf does not import the RPC engine.
const (
	codeInvalidArgument    = 3
	codeDeadlineExceeded   = 4
	codeNotFound           = 5
	codeAlreadyExists      = 6
	codeResourceExhausted  = 8
	codeFailedPrecondition = 9
	codeAborted            = 10
	codeOutOfRange         = 11
	codeUnimplemented      = 12
	codeInternal           = 13
	codeUnavailable        = 14
	codeDataLoss           = 15
)

var table []*Error

func row(reason string, class Class, code uint32, text string) *Error {
	e := &Error{reason: reason, class: class, code: code, text: "mq: " + text}
	table = append(table, e)
	return e
}

func local(text string) *Error { return &Error{class: Fatal, text: "mq: " + text} }

// The errors of the wire. Reasons are the Kafka protocol's names.
var (
	ErrUnknownTopicOrPartition  = row("UNKNOWN_TOPIC_OR_PARTITION", Refresh, codeNotFound, "unknown topic or partition")
	ErrUnknownTopicID           = row("UNKNOWN_TOPIC_ID", Refresh, codeNotFound, "unknown topic id: the topic was deleted or created anew")
	ErrLeaderNotAvailable       = row("LEADER_NOT_AVAILABLE", Refresh, codeUnavailable, "leader not available")
	ErrNotLeader                = row("NOT_LEADER_OR_FOLLOWER", Refresh, codeFailedPrecondition, "not the leader of the partition")
	ErrNotCoordinator           = row("NOT_COORDINATOR", Refresh, codeFailedPrecondition, "not the coordinator of the group")
	ErrFencedLeaderEpoch        = row("FENCED_LEADER_EPOCH", Refresh, codeAborted, "leader epoch is out of date")
	ErrNoQuorum                 = row("NOT_ENOUGH_REPLICAS", Retry, codeUnavailable, "no quorum")
	ErrCoordinatorLoading       = row("COORDINATOR_LOAD_IN_PROGRESS", Retry, codeUnavailable, "coordinator is loading")
	ErrBusy                     = row("THROTTLING_QUOTA_EXCEEDED", Retry, codeResourceExhausted, "busy: a limit of the broker is reached")
	ErrDiskFull                 = row("DISK_FULL", Retry, codeResourceExhausted, "disk nearly full: the broker refuses writes until space is freed")
	ErrCorruptBatch             = row("CORRUPT_MESSAGE", Retry, codeInvalidArgument, "record batch is corrupt")
	ErrTimeout                  = row("REQUEST_TIMED_OUT", Unknown, codeDeadlineExceeded, "timed out, outcome unknown")
	ErrRebalanceInProgress      = row("REBALANCE_IN_PROGRESS", Rejoin, codeAborted, "group is rebalancing")
	ErrStaleMemberEpoch         = row("STALE_MEMBER_EPOCH", Rejoin, codeAborted, "member epoch is out of date")
	ErrUnknownMember            = row("UNKNOWN_MEMBER_ID", Rejoin, codeAborted, "unknown group member")
	ErrFencedMemberEpoch        = row("FENCED_MEMBER_EPOCH", Rejoin, codeAborted, "group member is fenced: its partitions are others' by now")
	ErrOffsetOutOfRange         = row("OFFSET_OUT_OF_RANGE", Fatal, codeOutOfRange, "offset out of range")
	ErrRecordTooLarge           = row("MESSAGE_TOO_LARGE", Fatal, codeInvalidArgument, "record too large")
	ErrInvalidTopic             = row("INVALID_TOPIC_EXCEPTION", Fatal, codeInvalidArgument, "topic name not allowed")
	ErrInvalidConfig            = row("INVALID_CONFIG", Fatal, codeInvalidArgument, "invalid configuration")
	ErrInvalidPartitions        = row("INVALID_PARTITIONS", Fatal, codeInvalidArgument, "invalid number of partitions")
	ErrInvalidReplicationFactor = row("INVALID_REPLICATION_FACTOR", Fatal, codeInvalidArgument, "invalid replication factor")
	ErrInvalidRecord            = row("INVALID_RECORD", Fatal, codeInvalidArgument, "record batch is not acceptable")
	ErrInvalidGroupID           = row("INVALID_GROUP_ID", Fatal, codeInvalidArgument, "group id not allowed")
	ErrUnknownGroup             = row("GROUP_ID_NOT_FOUND", Fatal, codeNotFound, "unknown group")
	ErrNonEmptyGroup            = row("NON_EMPTY_GROUP", Fatal, codeFailedPrecondition, "group has members")
	ErrGroupSubscribed          = row("GROUP_SUBSCRIBED_TO_TOPIC", Fatal, codeFailedPrecondition, "a member of the group reads the topic")
	ErrGroupMaxSize             = row("GROUP_MAX_SIZE_REACHED", Fatal, codeResourceExhausted, "group has as many members as it may have")
	ErrInstanceInUse            = row("UNRELEASED_INSTANCE_ID", Fatal, codeFailedPrecondition, "another live member has the instance id")
	ErrInstanceFenced           = row("FENCED_INSTANCE_ID", Fatal, codeFailedPrecondition, "another member took over the instance id")
	ErrUnsupportedAssignor      = row("UNSUPPORTED_ASSIGNOR", Fatal, codeInvalidArgument, "unknown assignor")
	ErrInvalidPattern           = row("INVALID_REGULAR_EXPRESSION", Fatal, codeInvalidArgument, "invalid topic pattern")
	ErrOffsetMetadataTooLarge   = row("OFFSET_METADATA_TOO_LARGE", Fatal, codeInvalidArgument, "commit metadata too large")
	ErrInvalidRequest           = row("INVALID_REQUEST", Fatal, codeInvalidArgument, "invalid request")
	ErrUnsupportedVersion       = row("UNSUPPORTED_VERSION", Fatal, codeUnimplemented, "unsupported version")
	ErrUnsupportedCompression   = row("UNSUPPORTED_COMPRESSION_TYPE", Fatal, codeInvalidArgument, "unsupported compression")
	ErrTopicExists              = row("TOPIC_ALREADY_EXISTS", Fatal, codeAlreadyExists, "topic exists already")
	ErrOutOfOrderSequence       = row("OUT_OF_ORDER_SEQUENCE_NUMBER", Fatal, codeFailedPrecondition, "out of order sequence number")
	ErrProducerFenced           = row("PRODUCER_FENCED", Fatal, codeFailedPrecondition, "producer is fenced by a newer epoch")
	ErrCorruptLog               = row("KAFKA_STORAGE_ERROR", Fatal, codeDataLoss, "stored data is corrupt")
	ErrInternal                 = row("UNKNOWN_SERVER_ERROR", Fatal, codeInternal, "internal error")
)

// Errors that never cross the wire.
var (
	ErrClosed          = local("closed")
	ErrBufferFull      = local("buffer full")
	ErrDirInUse        = local("data directory is in use by another process")
	ErrNewerFormat     = local("data directory has a newer format than this version of mq reads")
	ErrRemoved         = local("the broker was removed from its cluster: it joins again only with an empty data directory")
	ErrForeignDir      = local("directory holds something else than mq data")
	ErrAddrInUse       = local("listen address is in use")
	ErrHandlerPanicked = local("handler panicked")
)

// Table returns the rows that cross the wire. Callers must not change it.
func Table() []*Error { return table }

// ByReason finds the sentinel of a wire reason. An unknown reason, sent by a
// newer peer, becomes ErrInternal, that is, fatal to the call.
func ByReason(reason string) *Error {
	for _, e := range table {
		if e.reason == reason {
			return e
		}
	}
	return ErrInternal
}

// Of returns the sentinel inside err, or nil when there is none.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// Retriable reports whether nothing happened and trying again, after a
// back-off or a metadata refresh, may succeed.
func Retriable(err error) bool {
	e := Of(err)
	return e != nil && (e.class == Retry || e.class == Refresh)
}

// OutcomeUnknown reports whether the request may or may not have taken effect.
func OutcomeUnknown(err error) bool {
	e := Of(err)
	return e != nil && e.class == Unknown
}

// Detail is an error with facts a caller can act on. Err is the cause and
// holds a sentinel.
type Detail struct {
	Err error

	// Leader is the broker to ask instead, for ErrNotLeader and
	// ErrNotCoordinator; LeaderAddr may be empty.
	Leader      int32
	LeaderAddr  string
	LeaderEpoch int32

	// LogStart and HighWatermark bound the readable offsets, for ErrOffsetOutOfRange.
	LogStart, HighWatermark int64
}

// Error implements error.
func (d *Detail) Error() string { return d.Err.Error() }

// Unwrap gives the cause.
func (d *Detail) Unwrap() error { return d.Err }
