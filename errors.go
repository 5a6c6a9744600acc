package mq

import (
	"errors"

	"github.com/raftmq/mq/internal/mqerr"
)

// Errors of requests. The letter is the class: M and R are Retriable (nothing
// happened, the library itself retries them inside its deadlines), U is
// OutcomeUnknown, F can't succeed as it is, J means that the consumer has to
// join its group again, which it does by itself.
var (
	ErrUnknownTopicOrPartition  error = mqerr.ErrUnknownTopicOrPartition  // M
	ErrUnknownTopicID           error = mqerr.ErrUnknownTopicID           // M: the topic was deleted or created anew
	ErrLeaderNotAvailable       error = mqerr.ErrLeaderNotAvailable       // M: also a broker that can't be reached, or stops
	ErrNotLeader                error = mqerr.ErrNotLeader                // M: LeaderHint may tell who is
	ErrNotCoordinator           error = mqerr.ErrNotCoordinator           // M
	ErrFencedLeaderEpoch        error = mqerr.ErrFencedLeaderEpoch        // M
	ErrNoQuorum                 error = mqerr.ErrNoQuorum                 // R: refused before anything was replicated
	ErrCoordinatorLoading       error = mqerr.ErrCoordinatorLoading       // R
	ErrBusy                     error = mqerr.ErrBusy                     // R: a limit of the broker is reached
	ErrDiskFull                 error = mqerr.ErrDiskFull                 // R: the broker refuses writes until space is freed
	ErrCorruptBatch             error = mqerr.ErrCorruptBatch             // R: damaged on the way
	ErrTimeout                  error = mqerr.ErrTimeout                  // U
	ErrRebalanceInProgress      error = mqerr.ErrRebalanceInProgress      // J
	ErrStaleMemberEpoch         error = mqerr.ErrStaleMemberEpoch         // J
	ErrUnknownMember            error = mqerr.ErrUnknownMember            // J
	ErrFencedMemberEpoch        error = mqerr.ErrFencedMemberEpoch        // J
	ErrOffsetOutOfRange         error = mqerr.ErrOffsetOutOfRange         // F: OffsetRange tells the bounds
	ErrRecordTooLarge           error = mqerr.ErrRecordTooLarge           // F
	ErrInvalidTopic             error = mqerr.ErrInvalidTopic             // F
	ErrInvalidConfig            error = mqerr.ErrInvalidConfig            // F
	ErrInvalidPartitions        error = mqerr.ErrInvalidPartitions        // F
	ErrInvalidReplicationFactor error = mqerr.ErrInvalidReplicationFactor // F
	ErrInvalidRecord            error = mqerr.ErrInvalidRecord            // F
	ErrInvalidGroupID           error = mqerr.ErrInvalidGroupID           // F
	ErrUnknownGroup             error = mqerr.ErrUnknownGroup             // F: the group has stored nothing
	ErrNonEmptyGroup            error = mqerr.ErrNonEmptyGroup            // F: it has members
	ErrGroupSubscribed          error = mqerr.ErrGroupSubscribed          // F: a member reads the topic
	ErrGroupMaxSize             error = mqerr.ErrGroupMaxSize             // F: a limit of the broker
	ErrInstanceInUse            error = mqerr.ErrInstanceInUse            // F: two live consumers have one instance id
	ErrInstanceFenced           error = mqerr.ErrInstanceFenced           // F: another consumer took over the instance id
	ErrUnsupportedAssignor      error = mqerr.ErrUnsupportedAssignor      // F
	ErrInvalidPattern           error = mqerr.ErrInvalidPattern           // F
	ErrOffsetMetadataTooLarge   error = mqerr.ErrOffsetMetadataTooLarge   // F
	ErrInvalidRequest           error = mqerr.ErrInvalidRequest           // F
	ErrUnsupportedVersion       error = mqerr.ErrUnsupportedVersion       // F
	ErrUnsupportedCompression   error = mqerr.ErrUnsupportedCompression   // F
	ErrTopicExists              error = mqerr.ErrTopicExists              // F
	ErrOutOfOrderSequence       error = mqerr.ErrOutOfOrderSequence       // F: the library handles it
	ErrProducerFenced           error = mqerr.ErrProducerFenced           // F
	ErrCorruptLog               error = mqerr.ErrCorruptLog               // F: a broker found damage in its stored data
	ErrInternal                 error = mqerr.ErrInternal                 // F: a fault of the broker, or an error newer than this client
)

// Errors that come from this process, not from a broker.
var (
	ErrClosed          error = mqerr.ErrClosed          // used after Close
	ErrBufferFull      error = mqerr.ErrBufferFull      // Producer.TrySend: would have to wait
	ErrDirInUse        error = mqerr.ErrDirInUse        // OpenBroker: another process has the data directory
	ErrNewerFormat     error = mqerr.ErrNewerFormat     // OpenBroker: the data was written by a newer version
	ErrRemoved         error = mqerr.ErrRemoved         // Broker.Err: the cluster has forgotten the broker
	ErrForeignDir      error = mqerr.ErrForeignDir      // OpenBroker: the directory holds something else
	ErrAddrInUse       error = mqerr.ErrAddrInUse       // OpenBroker: the listen address is taken
	ErrHandlerPanicked error = mqerr.ErrHandlerPanicked // Consumer.Run: the handler panicked
)

// Retriable reports whether err says that nothing happened and that trying
// again may succeed: after a back-off, with fresh metadata. Producers and
// consumers do that themselves until their deadlines; what they return was
// retried already.
func Retriable(err error) bool { return mqerr.Retriable(err) }

// OutcomeUnknown reports whether the operation may or may not have taken
// effect: the request left, and no answer told. Repeating it may do it twice.
func OutcomeUnknown(err error) bool { return mqerr.OutcomeUnknown(err) }

// LeaderHint returns the broker that an ErrNotLeader or ErrNotCoordinator names
// as the right one, and its address, empty when unknown.
func LeaderHint(err error) (id int32, addr string, ok bool) {
	var d *mqerr.Detail
	if !errors.As(err, &d) || d.Leader < 0 ||
		!errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrNotCoordinator) {
		return 0, "", false
	}
	return d.Leader, d.LeaderAddr, true
}

// OffsetRange returns the offsets that can be read, start inclusive and end
// exclusive, as an ErrOffsetOutOfRange tells them.
func OffsetRange(err error) (start, end int64, ok bool) {
	var d *mqerr.Detail
	if !errors.As(err, &d) || !errors.Is(err, ErrOffsetOutOfRange) {
		return 0, 0, false
	}
	return d.LogStart, d.HighWatermark, true
}
