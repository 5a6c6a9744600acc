package route

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/raftmq/mq/internal/mqerr"
)

func TestUnreachableBrokersAreNamedOnceWithTheirCause(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	broken := errors.New("connection error")
	var u unreachable
	u.add("a:1", fmt.Errorf("%w: %w", mqerr.ErrLeaderNotAvailable, refused))
	u.add("b:2", fmt.Errorf("%w: broker b:2: %w", mqerr.ErrLeaderNotAvailable, broken))
	u.add("c:3", mqerr.ErrUnsupportedVersion)
	if got, want := u.Error(), "mq: no broker answered: a:1: connection refused; b:2: connection error; c:3: mq: unsupported version"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, held := range []error{mqerr.ErrLeaderNotAvailable, syscall.ECONNREFUSED, broken, mqerr.ErrUnsupportedVersion} {
		if !errors.Is(&u, held) {
			t.Errorf("%v is not held", held)
		}
	}
}
