package network

import (
	"errors"

	"github.com/raftmq/mq/internal/unpack"
)

// errMalformed says that a peer sent what no broker sends.
var errMalformed = errors.New("malformed message")

// fields takes a message apart.
type fields struct{ unpack.Reader }

func fieldsOf(b []byte) fields { return fields{unpack.Reader{Rest: b}} }

// err is errMalformed after the first field that wasn't there.
func (f *fields) err() error {
	if f.Bad {
		return errMalformed
	}
	return nil
}
