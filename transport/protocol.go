package transport

import (
	"context"
	"fmt"
	"strconv"

	"google.golang.org/grpc/metadata"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/transport/internal/mqpb"
)

// ProtocolVersion is the newest version of the protocol that this package
// speaks. proto/mq/v1/broker.proto says what raises it.
const ProtocolVersion = 1

// serviceName is the name that health checks ask for.
var serviceName = mqpb.Broker_ServiceDesc.ServiceName

// Headers of a call and of its answer.
const (
	headerVersion    = "mq-protocol"
	headerMaxMessage = "mq-max-message-bytes" // answers only
)

// withVersion makes the context of a call that speaks our version.
func withVersion(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, headerVersion, strconv.Itoa(ProtocolVersion))
}

// checkVersion refuses a call of a version that we don't speak.
func checkVersion(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get(headerVersion) {
		if n, err := strconv.Atoi(v); err != nil || n < 1 || n > ProtocolVersion {
			return fmt.Errorf("%w: the message is of protocol version %.20q, this broker speaks 1 to %d",
				mqerr.ErrUnsupportedVersion, v, ProtocolVersion)
		}
	}
	return nil
}

// answerHeader tells a client what it may send.
func answerHeader(maxMessageBytes int) metadata.MD {
	return metadata.Pairs(
		headerVersion, strconv.Itoa(ProtocolVersion),
		headerMaxMessage, strconv.Itoa(maxMessageBytes),
	)
}

// maxMessage reads the broker's limit; 0 when it tells none.
func maxMessage(md metadata.MD) int {
	for _, v := range md.Get(headerMaxMessage) {
		if n, err := strconv.Atoi(v); err == nil && n > 0 {
			return n
		}
	}
	return 0
}
