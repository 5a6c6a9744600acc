package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport/internal/mqpb"
)

// errorDomain marks our reasons in google.rpc.ErrorInfo.
const errorDomain = "mq"

// maxText bounds the text of an error: a status travels in HTTP headers.
const maxText = 1024

// remoteError is an error of the other side: its text and our sentinel.
type remoteError struct {
	sentinel *mqerr.Error
	text     string
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.sentinel }

// EncodeError makes the wire form of a result's error. Nil stays nil.
func EncodeError(err error) *mqpb.Error {
	if err == nil {
		return nil
	}
	return &mqpb.Error{Reason: sentinel(err).Reason(), Message: text(err), Facts: encodeFacts(err)}
}

// DecodeError is the inverse of EncodeError: errors.Is finds the sentinel,
// errors.As a *mqerr.Detail if there are facts, and the text is the same.
func DecodeError(e *mqpb.Error) error {
	if e == nil {
		return nil
	}
	return decode(e.GetReason(), e.GetMessage(), e.GetFacts())
}

// EncodeStatus makes a call's status of an error that ended it as a whole. ctx
// is the call's: that it ended is said by the status code alone.
func EncodeStatus(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && mqerr.Of(err) == nil && errors.Is(err, ended) {
		return status.FromContextError(err).Err()
	}
	s := sentinel(err)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: s.Reason(), Domain: errorDomain}}
	if facts := encodeFacts(err); facts != nil {
		details = append(details, protoadapt.MessageV1Of(facts))
	}
	st := status.New(codes.Code(s.Code()), text(err))
	if full, err := st.WithDetails(details...); err == nil {
		st = full
	}
	return st.Err()
}

// DecodeStatus is the inverse of EncodeStatus. It returns nil when err is not
// an error of a broker but one of gRPC itself.
func DecodeStatus(err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return nil
	}
	var info *errdetails.ErrorInfo
	var facts *mqpb.ErrorFacts
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *mqpb.ErrorFacts:
			facts = d
		}
	}
	if info.GetDomain() != errorDomain {
		return nil
	}
	return decode(info.GetReason(), st.Message(), facts)
}

// sentinel finds the row of the table that tells err to the other side.
func sentinel(err error) *mqerr.Error {
	s := mqerr.Of(err)
	switch {
	case s == mqerr.ErrClosed: // the broker is stopping
		return mqerr.ErrLeaderNotAvailable
	case s != nil && s.Reason() != "":
		return s
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return mqerr.ErrTimeout // a wait inside the broker
	}
	return mqerr.ErrInternal
}

func decode(reason, text string, facts *mqpb.ErrorFacts) error {
	s := mqerr.ByReason(reason)
	switch {
	case s.Reason() != reason:
		text = fmt.Sprintf("%s (unknown reason %q: %s)", s, reason, text)
	case text == "":
		text = s.Error()
	}
	var err error = &remoteError{sentinel: s, text: text}
	if facts != nil {
		err = &mqerr.Detail{
			Err:           err,
			Leader:        facts.GetLeader(),
			LeaderAddr:    facts.GetLeaderAddr(),
			LeaderEpoch:   facts.GetLeaderEpoch(),
			LogStart:      facts.GetLogStart(),
			HighWatermark: facts.GetHighWatermark(),
		}
	}
	return err
}

func encodeFacts(err error) *mqpb.ErrorFacts {
	var d *mqerr.Detail
	if !errors.As(err, &d) {
		return nil
	}
	return &mqpb.ErrorFacts{
		Leader:        d.Leader,
		LeaderAddr:    strings.ToValidUTF8(d.LeaderAddr, "\uFFFD"),
		LeaderEpoch:   d.LeaderEpoch,
		LogStart:      d.LogStart,
		HighWatermark: d.HighWatermark,
	}
}

// text is the error's text as protobuf and headers can carry it.
func text(err error) string {
	s := err.Error()
	if len(s) > maxText {
		s = s[:maxText-len("...")] + "..."
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
