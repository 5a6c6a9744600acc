package mq

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"

	"github.com/raftmq/mq/cluster/network"
)

// errNoRoots says that brokers could not tell a stranger from one of theirs: with
// the system's authorities every owner of some certificate would be a broker.
var errNoRoots = errors.New("needs a certificate and RootCAs, and no InsecureSkipVerify")

// peerNetwork is TCP, with mutual TLS if there is a configuration.
func peerNetwork(conf *tls.Config) network.TCP {
	if conf == nil {
		return network.TCP{}
	}
	peer := mutual(conf)
	if ask := conf.GetConfigForClient; ask != nil {
		peer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			now, err := ask(hello)
			if now == nil || err != nil {
				now = conf
			}
			return mutual(now), errors.Join(err, rootsFault(now))
		}
	}
	return network.TCP{Accept: peer, Connect: peer}
}

// mutual makes each side ask the other for its certificate.
func mutual(conf *tls.Config) *tls.Config {
	conf = conf.Clone()
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS13)
	conf.ClientAuth, conf.ClientCAs = tls.RequireAndVerifyClientCert, conf.RootCAs
	conf.SessionTicketsDisabled = true // they would outlive an authority
	return conf
}

func rootsFault(conf *tls.Config) error {
	shows := len(conf.Certificates) > 0 || conf.GetCertificate != nil && conf.GetClientCertificate != nil
	if !shows || conf.RootCAs == nil || conf.InsecureSkipVerify {
		return errNoRoots
	}
	return nil
}

// tlsFault is what is wrong with TLS between brokers.
func (c ClusterConfig) tlsFault() error {
	if c.TLS == nil {
		return nil
	}
	if tcp, ok := c.Network.(network.TCP); c.Network != nil && (!ok || tcp.Accept == nil) {
		return errors.New("has no effect on a network of your own")
	}
	if c.Network == nil {
		return errors.New("needs listen")
	}
	return rootsFault(c.TLS)
}

// dialTLS is how this broker's own clients connect to another one at addr. All
// brokers serve clients alike.
func (c BrokerConfig) dialTLS(addr string) (*tls.Config, error) {
	if c.TLS == nil || strings.HasPrefix(addr, "mem:") {
		return nil, nil
	}
	now, err := network.DialConfig(c.TLS, addr)
	if err != nil {
		return nil, err
	}
	conf := now.Clone()
	conf.GetConfigForClient = nil
	return conf, nil
}

// warnOfPlainText tells loudly when others on the way can read and change what is
// sent.
func (c BrokerConfig) warnOfPlainText(listener net.Listener) {
	if listener != nil && c.Listen != "" && c.TLS == nil && leavesMachine(listener.Addr().String()) {
		c.Logger.Warn("clients are served in PLAIN TEXT on an address that is not loopback: anybody on the way can read and change everything; configure tls", "listen", listener.Addr().String())
	}
	if tcp, ok := c.Cluster.Network.(network.TCP); ok && tcp.Accept == nil && leavesMachine(c.Cluster.Listen) {
		c.Logger.Warn("brokers talk in PLAIN TEXT on an address that is not loopback: anybody who reaches it can act as a broker; configure cluster.tls", "listen", c.Cluster.Listen)
	}
}

// leavesMachine reports whether an address to listen on is not only this
// machine's own.
func leavesMachine(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	ip := net.ParseIP(host)
	return host != "localhost" && (ip == nil || !ip.IsLoopback())
}
