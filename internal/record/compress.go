package record

import (
	"fmt"

	"github.com/raftmq/mq/internal/mqerr"
)

// compress appends src, compressed, to dst.
func compress(dst, src []byte, codec Codec) ([]byte, error) {
	return dst, fmt.Errorf("%w: %v", mqerr.ErrUnsupportedCompression, codec)
}

// decompress returns what src holds, at most limit bytes.
func decompress(src []byte, codec Codec, limit int) ([]byte, error) {
	return nil, fmt.Errorf("%w: %v", mqerr.ErrUnsupportedCompression, codec)
}
