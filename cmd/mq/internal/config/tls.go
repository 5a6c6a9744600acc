package config

import (
	"crypto/tls"
	"fmt"
	"log/slog"

	"github.com/raftmq/mq/internal/pemtls"
)

// ServerTLS names the PEM files with which a broker serves clients.
type ServerTLS struct {
	CertFile   string     `yaml:"cert_file"`
	KeyFile    string     `yaml:"key_file"`
	CAFile     string     `yaml:"ca_file"`
	ClientAuth ClientAuth `yaml:"client_auth"`
}

// PeerTLS names the PEM files with which brokers know each other.
type PeerTLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	CAFile   string `yaml:"ca_file"`
}

// ClientTLS says how to reach a broker that has TLS.
type ClientTLS struct {
	CAFile             string `yaml:"ca_file"`
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	ServerName         string `yaml:"server_name"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
}

// ClientAuth says whether clients must show a certificate. The zero value is:
// if there is an authority to know them by.
type ClientAuth string

// UnmarshalText takes none and require.
func (a *ClientAuth) UnmarshalText(text []byte) error {
	switch s := ClientAuth(text); s {
	case "", "none", "require":
		*a = s
		return nil
	}
	return fmt.Errorf("%.40q is neither none nor require", text)
}

// Load reads the files; it returns nil if there are none.
func (t ServerTLS) Load(log *slog.Logger) (*tls.Config, error) {
	if t == (ServerTLS{}) {
		return nil, nil
	}
	auth := tls.NoClientCert
	if t.ClientAuth == "require" || t.ClientAuth == "" && t.CAFile != "" {
		auth = tls.RequireAndVerifyClientCert
	}
	return load("tls", pemtls.Files{Cert: t.CertFile, Key: t.KeyFile, CA: t.CAFile}, auth, log)
}

// Load reads the files; it returns nil if there are none.
func (t PeerTLS) Load(log *slog.Logger) (*tls.Config, error) {
	if t == (PeerTLS{}) {
		return nil, nil
	}
	return load("cluster.tls", pemtls.Files{Cert: t.CertFile, Key: t.KeyFile, CA: t.CAFile}, tls.RequireAndVerifyClientCert, log)
}

// Load reads the files; it returns nil if nothing is set. What serves brokers may
// be a proxy, so TLS 1.2 is enough.
func (t ClientTLS) Load(log *slog.Logger) (*tls.Config, error) {
	if t == (ClientTLS{}) {
		return nil, nil
	}
	conf, err := load("client_tls", pemtls.Files{Cert: t.CertFile, Key: t.KeyFile, CA: t.CAFile}, tls.NoClientCert, log)
	if err != nil {
		return nil, err
	}
	conf.MinVersion, conf.ServerName, conf.InsecureSkipVerify = tls.VersionTLS12, t.ServerName, t.InsecureSkipVerify
	return conf, nil
}

func load(section string, files pemtls.Files, auth tls.ClientAuthType, log *slog.Logger) (*tls.Config, error) {
	conf, err := pemtls.Load(files, auth, log)
	if err != nil {
		return nil, fmt.Errorf("broker.%s: %w", section, err)
	}
	return conf, nil
}

// tlsFaults is what is wrong with the names of files, for each where it was given.
func (c *Config) tlsFaults() (faults Faults) {
	has := func(name string) bool { return !keyOf("broker." + name).in(&c.doc).IsZero() }
	needs := func(name, wants string, missing bool) {
		if has(name) && missing {
			faults = append(faults, c.get("broker."+name).at+": needs "+wants)
		}
	}
	for _, section := range []string{"tls.", "cluster.tls.", "client_tls."} {
		cert, key, ca := has(section+"cert_file"), has(section+"key_file"), has(section+"ca_file")
		needs(section+"cert_file", "key_file", !key)
		needs(section+"key_file", "cert_file", !cert)
		needs(section+"cert_file", "ca_file", section == "cluster.tls." && !ca)
		needs(section+"ca_file", "cert_file and key_file", section != "client_tls." && !cert && !key)
	}
	needs("tls.client_auth", "cert_file and key_file", !has("tls.cert_file"))
	needs("tls.client_auth", "ca_file", c.ServerTLS.ClientAuth == "require" && has("tls.cert_file") && !has("tls.ca_file"))
	needs("cluster.tls.cert_file", "cluster.listen", !has("cluster.listen"))
	return faults
}
