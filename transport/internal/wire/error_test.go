package wire_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport/internal/mqpb"
	"github.com/raftmq/mq/transport/internal/wire"
)

func TestEveryRowOfTheTableRoundTrips(t *testing.T) {
	t.Parallel()
	for _, row := range mqerr.Table() {
		err := fmt.Errorf("doing: %w: because", row)
		st := wire.EncodeStatus(t.Context(), err)
		if got := status.Code(st); uint32(got) != row.Code() {
			t.Errorf("%s: status code %v, want %d", row.Reason(), got, row.Code())
		}
		for way, got := range map[string]error{
			"result": wire.DecodeError(wire.EncodeError(err)),
			"status": wire.DecodeStatus(st),
		} {
			if !errors.Is(got, row) || mqerr.Of(got).Class() != row.Class() || got.Error() != err.Error() {
				t.Errorf("%s came as a %s back as %v", row.Reason(), way, got)
			}
			if d := (*mqerr.Detail)(nil); errors.As(got, &d) {
				t.Errorf("%s came as a %s back with facts that nobody gave: %+v", row.Reason(), way, d)
			}
		}
	}
}

func TestFactsOfAnErrorTravel(t *testing.T) {
	t.Parallel()
	want := mqerr.Detail{Err: mqerr.ErrNotLeader, Leader: 3, LeaderAddr: "h:1", LeaderEpoch: 9, LogStart: 10, HighWatermark: 1 << 40}
	err := fmt.Errorf("append: %w", &want)
	for way, got := range map[string]error{
		"result": wire.DecodeError(wire.EncodeError(err)),
		"status": wire.DecodeStatus(wire.EncodeStatus(t.Context(), err)),
	} {
		var d *mqerr.Detail
		if !errors.As(got, &d) || !errors.Is(got, mqerr.ErrNotLeader) {
			t.Fatalf("%s: got %#v", way, got)
		}
		have := *d
		if have.Err = want.Err; have != want {
			t.Errorf("%s: got %+v, want %+v", way, have, want)
		}
	}
}

func TestReasonOfANewerPeerIsFatal(t *testing.T) {
	t.Parallel()
	got := wire.DecodeError(&mqpb.Error{Reason: "MOON_PHASE", Message: "full moon"})
	if !errors.Is(got, mqerr.ErrInternal) || !strings.Contains(got.Error(), "MOON_PHASE") || !strings.Contains(got.Error(), "full moon") {
		t.Errorf("got %v", got)
	}
}

func TestErrorsThatDoNotTravelBecomeOnesThatDo(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancel(t.Context())
	end()
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"an error without a sentinel", errors.New("disk on fire"), mqerr.ErrInternal},
		{"a local error", fmt.Errorf("open: %w", mqerr.ErrDirInUse), mqerr.ErrInternal},
		{"a broker that was closed", mqerr.ErrClosed, mqerr.ErrLeaderNotAvailable},
		{"a wait inside the broker", fmt.Errorf("propose: %w", ended.Err()), mqerr.ErrTimeout},
	} {
		got := wire.DecodeStatus(wire.EncodeStatus(t.Context(), c.err))
		if !errors.Is(got, c.want) || got.Error() != c.err.Error() {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		if got := wire.DecodeError(wire.EncodeError(c.err)); !errors.Is(got, c.want) {
			t.Errorf("%s in a result: got %v, want %v", c.name, got, c.want)
		}
	}

	// That the call's own context ended is the caller's news, not the broker's error.
	if st := wire.EncodeStatus(ended, ended.Err()); status.Code(st) != codes.Canceled || wire.DecodeStatus(st) != nil {
		t.Errorf("end of the call's context: got %v", st)
	}
}

func TestForeignStatusIsNotABrokersError(t *testing.T) {
	t.Parallel()
	foreign, err := status.New(codes.Aborted, "x").WithDetails(&errdetails.ErrorInfo{Reason: "NOT_LEADER_OR_FOLLOWER", Domain: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{foreign.Err(), status.Error(codes.Unavailable, "x"), errors.New("x")} {
		if got := wire.DecodeStatus(err); got != nil {
			t.Errorf("%v decoded as %v", err, got)
		}
	}
}

func TestTextOfAnErrorFitsTheWire(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\xff\xfe", strings.Repeat("ä", 5000), strings.Repeat("\xff", 5000)} {
		e := wire.EncodeError(fmt.Errorf("%w%s", mqerr.ErrBusy, text))
		if len(e.GetMessage()) > 4096 || !utf8.ValidString(e.GetMessage()) {
			t.Errorf("text of %d bytes became %d bytes: %.40q", len(text), len(e.GetMessage()), e.GetMessage())
		}
	}
	if got := wire.DecodeError(&mqpb.Error{Reason: mqerr.ErrBusy.Reason()}); got.Error() != mqerr.ErrBusy.Error() {
		t.Errorf("without a text: %v", got)
	}
}

func TestNoErrorStaysNone(t *testing.T) {
	t.Parallel()
	if wire.EncodeError(nil) != nil || wire.DecodeError(nil) != nil || wire.EncodeStatus(t.Context(), nil) != nil || wire.DecodeStatus(nil) != nil {
		t.Error("nil became an error")
	}
}
