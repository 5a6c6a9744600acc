package transport

import (
	"context"
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"
)

// clientTLS makes each connection of what its configuration trusts at that time:
// GetConfigForClient, if there is one, may say anew who signs certificates.
type clientTLS struct {
	credentials.TransportCredentials
	conf *tls.Config
}

func newClientTLS(conf *tls.Config) credentials.TransportCredentials {
	if conf == nil || conf.GetConfigForClient == nil {
		return credentials.NewTLS(conf)
	}
	return &clientTLS{credentials.NewTLS(conf), conf.Clone()}
}

// ClientHandshake implements credentials.TransportCredentials.
func (c *clientTLS) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	now, err := c.conf.GetConfigForClient(&tls.ClientHelloInfo{ServerName: authority})
	if err != nil || now == nil || now.RootCAs == nil {
		return c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	}
	conf := c.conf.Clone()
	conf.RootCAs = now.RootCAs
	return credentials.NewTLS(conf).ClientHandshake(ctx, authority, raw)
}

// Clone implements credentials.TransportCredentials.
func (c *clientTLS) Clone() credentials.TransportCredentials { return newClientTLS(c.conf) }
