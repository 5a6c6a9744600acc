package config_test

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/internal/pemtls/certtest"
)

func TestFilesOfCertificatesGoTogether(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"broker: {tls: {cert_file: c}}":                                                    "broker.tls.cert_file: needs key_file",
		"broker: {tls: {key_file: k}}":                                                     "broker.tls.key_file: needs cert_file",
		"broker: {tls: {ca_file: a}}":                                                      "broker.tls.ca_file: needs cert_file and key_file",
		"broker: {tls: {client_auth: require}}":                                            "broker.tls.client_auth: needs cert_file and key_file",
		"broker: {tls: {cert_file: c, key_file: k, client_auth: require}}":                 "broker.tls.client_auth: needs ca_file",
		"broker: {tls: {client_auth: maybe}}":                                              `"maybe" is neither none nor require`,
		"broker: {client_tls: {cert_file: c}}":                                             "broker.client_tls.cert_file: needs key_file",
		"broker: {cluster: {listen: 'h:1', tls: {cert_file: c, key_file: k}}}":             "broker.cluster.tls.cert_file: needs ca_file",
		"broker: {cluster: {tls: {cert_file: c, key_file: k, ca_file: a}}}":                "broker.cluster.tls.cert_file: needs cluster.listen",
		"broker: {tls: {cert: c}}":                                                         "did you mean cert_file",
		"broker: {tls: {cert_file: c, key_file: k}}":                                       "",
		"broker: {tls: {cert_file: '', key_file: '', ca_file: '', client_auth: ''}}":       "",
		"broker: {client_tls: {ca_file: a}}":                                               "",
		"broker: {cluster: {listen: 'h:1', tls: {cert_file: c, key_file: k, ca_file: a}}}": "",
	} {
		_, err := load(t, text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestCertificatesAreLoadedAsTheirSectionSays(t *testing.T) {
	t.Parallel()
	log, ca := slog.New(slog.DiscardHandler), certtest.NewCA(t)
	cert, key := ca.Issue(t, t.TempDir(), "a", time.Now().Add(time.Hour))
	pair := "cert_file: '" + cert + "', key_file: '" + key + "'"
	trust := ", ca_file: '" + ca.File + "'"
	for text, want := range map[string]tls.ClientAuthType{
		pair:                                    tls.NoClientCert,
		pair + trust:                            tls.RequireAndVerifyClientCert,
		pair + trust + ", client_auth: none":    tls.NoClientCert,
		pair + trust + ", client_auth: require": tls.RequireAndVerifyClientCert,
	} {
		conf, err := mustLoad(t, "broker: {tls: {"+text+"}}").ServerTLS.Load(log)
		if err != nil || conf.ClientAuth != want {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
	c := mustLoad(t, "broker: {client_tls: {"+pair+trust+", server_name: s, insecure_skip_verify: true}, cluster: {listen: 'h:1', tls: {"+pair+trust+"}}}")
	client, err := c.ClientTLS.Load(log)
	if err != nil || client.ServerName != "s" || !client.InsecureSkipVerify || !client.RootCAs.Equal(ca.Pool()) {
		t.Errorf("%+v, %v", client, err)
	}
	cfg := c.Broker
	if cfg.Cluster.TLS, err = c.PeerTLS.Load(log); err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.Complete(); err != nil {
		t.Error(err)
	}
	c = mustLoad(t, "broker: {tls: {cert_file: absent, key_file: absent}}")
	if _, err := c.ServerTLS.Load(log); !errors.Is(err, mq.ErrInvalidConfig) || !strings.Contains(err.Error(), "broker.tls: ") || !strings.Contains(err.Error(), "absent: no such file") {
		t.Errorf("got %v", err)
	}
	c = mustLoad(t, "")
	server, _ := c.ServerTLS.Load(log)
	client, _ = c.ClientTLS.Load(log)
	peer, _ := c.PeerTLS.Load(log)
	if server != nil || client != nil || peer != nil {
		t.Error("TLS, and nobody asked for it")
	}
}
