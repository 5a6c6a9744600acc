package route

import (
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/raftmq/mq/internal/mqerr"
)

// unreachable says that no broker answered, and of each address why, once.
// It holds ErrLeaderNotAvailable and the causes.
type unreachable struct {
	addrs  []string
	causes []error
}

func (u *unreachable) add(addr string, err error) {
	u.addrs, u.causes = append(u.addrs, addr), append(u.causes, err)
}

func (u *unreachable) Error() string {
	parts := make([]string, len(u.addrs))
	for i, addr := range u.addrs {
		parts[i] = addr + ": " + cause(addr, u.causes[i])
	}
	return "mq: no broker answered: " + strings.Join(parts, "; ")
}

func (u *unreachable) Unwrap() []error {
	return append([]error{mqerr.ErrLeaderNotAvailable}, u.causes...)
}

// cause is what went wrong with an address, without what was said already: the
// address again, and that a broker is not available.
func cause(addr string, err error) string {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		err = dial.Err
		var code syscall.Errno
		if errors.As(err, &code) {
			err = code
		}
	}
	text := strings.TrimPrefix(err.Error(), mqerr.ErrLeaderNotAvailable.Error()+": ")
	return strings.TrimPrefix(text, "broker "+addr+": ")
}
