package transport

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/raftmq/mq/transport/internal/wire"
)

// serverCodec is gRPC's protobuf codec, but that it spends no memory on the
// entries of requests which have too many.
type serverCodec struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (c serverCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	return wire.UnmarshalRequest(buf.ReadOnlyData(), m)
}
