// Package pemtls makes a tls.Config of PEM files, and follows them when they
// change.
package pemtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/raftmq/mq/internal/clock"
	"github.com/raftmq/mq/internal/mqerr"
)

// Files are paths of PEM files.
type Files struct {
	Cert, Key string // what this side shows; both or none
	CA        string // who signs what the other side shows; empty means the system's authorities
}

// checkInterval is how often, at most, handshakes look at the files.
const checkInterval = time.Second

// Load reads the files and returns a configuration for either side of a
// connection, with TLS 1.3. Having a CA does not make it ask clients for a
// certificate; auth does.
//
// Its GetConfigForClient and GetClientCertificate look whether the files have
// changed, so connections made later get what is in them now. Files that can't be
// used leave things as they were, and log says so, once. There is no goroutine.
//
// The error is ErrInvalidConfig and names the file. A certificate that has
// expired is only logged: the other side may be the one whose clock is wrong.
func Load(files Files, auth tls.ClientAuthType, log *slog.Logger) (*tls.Config, error) {
	return load(files, auth, log, clock.System{})
}

func load(files Files, auth tls.ClientAuthType, log *slog.Logger, clk clock.Clock) (*tls.Config, error) {
	s := &source{files: files, auth: auth, log: log, clock: clk}
	if err := s.read(); err != nil {
		return nil, fmt.Errorf("%w: %w", mqerr.ErrInvalidConfig, err)
	}
	s.state.checked = clk.Now()
	conf := s.state.conf.Clone()
	conf.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current(), nil }
	if files.Cert != "" {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &s.current().Certificates[0], nil
		}
	}
	return conf, nil
}

// source is the files and what was last read of them.
type source struct {
	files Files
	auth  tls.ClientAuthType
	log   *slog.Logger
	clock clock.Clock

	state struct {
		sync.Mutex
		conf    *tls.Config // never changed, only replaced
		stamps  [3]stamp    // of the files when conf was read
		checked time.Time
		fault   string // why conf is not what the files say, as it was logged
	}
}

// current is what the files say, or said when they could last be used.
func (s *source) current() *tls.Config {
	s.state.Lock()
	defer s.state.Unlock()
	if now := s.clock.Now(); now.Sub(s.state.checked) >= checkInterval {
		s.state.checked = now
		s.follow()
	}
	return s.state.conf
}

// follow reads the files if they have changed. After a failure it does so again
// each time: they may be half written. The lock is held.
func (s *source) follow() {
	if s.state.fault == "" && s.stamps() == s.state.stamps {
		return
	}
	err := s.read()
	switch {
	case err == nil:
		s.state.fault = ""
		s.log.Info("TLS certificates were read again", "cert", s.files.Cert, "ca", s.files.CA)
	case err.Error() != s.state.fault:
		s.state.fault = err.Error()
		s.log.Error("changed TLS files can't be used, those before stay in use", "err", err)
	}
}

// read makes a configuration of the files.
func (s *source) read() error {
	stamps := s.stamps() // before: a change meanwhile is found the next time
	conf := &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: s.auth,
		// A ticket would let in whom an authority that is gone has let in once.
		SessionTicketsDisabled: true,
	}
	if (s.files.Cert == "") != (s.files.Key == "") {
		return errors.New("a certificate and its key go together")
	}
	if s.files.Cert != "" {
		cert, err := readPair(s.files.Cert, s.files.Key)
		if err != nil {
			return err
		}
		conf.Certificates = []tls.Certificate{cert}
		s.warnOfDates(cert.Leaf)
	}
	if s.files.CA != "" {
		pool, err := readPool(s.files.CA)
		if err != nil {
			return err
		}
		conf.RootCAs, conf.ClientCAs = pool, pool
	}
	s.state.conf, s.state.stamps = conf, stamps
	return nil
}

func (s *source) warnOfDates(leaf *x509.Certificate) {
	switch now := s.clock.Now(); {
	case now.After(leaf.NotAfter):
		s.log.Warn("the TLS certificate has expired: others refuse it", "file", s.files.Cert, "expired", leaf.NotAfter)
	case now.Before(leaf.NotBefore):
		s.log.Warn("the TLS certificate is not valid yet: others refuse it", "file", s.files.Cert, "valid_from", leaf.NotBefore)
	}
}
