package pemtls

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/clock"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/pemtls/certtest"
)

// logged is a log and its text.
func logged() (*slog.Logger, *bytes.Buffer) {
	var text bytes.Buffer
	return slog.New(slog.NewTextHandler(&text, nil)), &text
}

// soon is when most certificates here end.
func soon() time.Time { return time.Now().Add(time.Hour) }

// meet connects two sides and returns whom each saw, or why one gave up.
func meet(t *testing.T, server, client *tls.Config) (byClient, byServer string, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a net.Pipe would hang: both sides write at once
	if err != nil {
		t.Fatal(err)
	}
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	client = client.Clone()
	if client.ServerName == "" {
		client.ServerName = "localhost"
	}
	at, of := tls.Server(a, server), tls.Client(b, client)
	served := make(chan error, 1)
	go func() { // ends with the connection
		err := at.Handshake()
		if err == nil {
			_, err = at.Write([]byte{1})
		}
		_ = a.Close()
		served <- err
	}()
	_, err = of.Read(make([]byte, 1)) // what the server thinks of the client comes after the handshake
	_ = b.Close()
	if err = errors.Join(<-served, err); err != nil {
		return "", "", err
	}
	return shown(of), shown(at), nil
}

func shown(c *tls.Conn) string {
	if certs := c.ConnectionState().PeerCertificates; len(certs) > 0 {
		return certs[0].Subject.CommonName
	}
	return ""
}

func mustLoad(t *testing.T, files Files, auth tls.ClientAuthType, clk clock.Clock, log *slog.Logger) *tls.Config {
	t.Helper()
	conf, err := load(files, auth, log, clk)
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

func TestSidesKnowEachOtherByTheirAuthority(t *testing.T) {
	t.Parallel()
	log, _ := logged()
	ca, stranger := certtest.NewCA(t), certtest.NewCA(t)
	issue := func(by *certtest.CA, name string, until time.Time) Files {
		cert, key := by.Issue(t, t.TempDir(), name, until)
		return Files{Cert: cert, Key: key, CA: ca.File}
	}
	server := issue(ca, "server", soon())
	for _, c := range []struct {
		name           string
		server, client Files
		auth           tls.ClientAuthType
		byServer       string // sees this client
		fault          string
	}{
		{"the server alone", server, Files{CA: ca.File}, tls.NoClientCert, "", ""},
		{"both", server, issue(ca, "client", soon()), tls.RequireAndVerifyClientCert, "client", ""},
		{"a client without a certificate", server, Files{CA: ca.File}, tls.RequireAndVerifyClientCert, "", "certificate required"},
		{"a client of another authority", server, issue(stranger, "client", soon()), tls.RequireAndVerifyClientCert, "", "certificate"},
		{"a client whose time is over", server, issue(ca, "client", time.Now().Add(-time.Minute)), tls.RequireAndVerifyClientCert, "", "expired"},
		{"a server of another authority", issue(stranger, "server", soon()), Files{CA: ca.File}, tls.NoClientCert, "", "unknown authority"},
		{"a server whose time is over", issue(ca, "server", time.Now().Add(-time.Minute)), Files{CA: ca.File}, tls.NoClientCert, "", "expired"},
		{"a client that trusts the system", server, Files{}, tls.NoClientCert, "", "unknown authority"},
	} {
		at := mustLoad(t, c.server, c.auth, clock.System{}, log)
		of := mustLoad(t, c.client, tls.NoClientCert, clock.System{}, log)
		byClient, byServer, err := meet(t, at, of)
		switch {
		case c.fault == "" && (err != nil || byClient != "server" || byServer != c.byServer):
			t.Errorf("%s: the client sees %q, the server %q, %v", c.name, byClient, byServer, err)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("%s: want %q, got %v", c.name, c.fault, err)
		}
	}
	of := mustLoad(t, Files{CA: ca.File}, tls.NoClientCert, clock.System{}, log)
	of.ServerName = "elsewhere"
	if _, _, err := meet(t, mustLoad(t, server, tls.NoClientCert, clock.System{}, log), of); err == nil {
		t.Error("a server may have any name")
	}
	of.ServerName, of.MaxVersion, of.MinVersion = "", tls.VersionTLS12, tls.VersionTLS12
	if _, _, err := meet(t, mustLoad(t, server, tls.NoClientCert, clock.System{}, log), of); err == nil {
		t.Error("a server speaks TLS 1.2")
	}
}

func TestChangedFilesCountForTheNextConnection(t *testing.T) {
	t.Parallel()
	log, text := logged()
	clk := clock.NewManual(time.Now())
	ca, dir := certtest.NewCA(t), t.TempDir()
	cert, key := ca.Issue(t, dir, "first", soon())
	trust := filepath.Join(dir, "ca.pem")
	copyFile(t, ca.File, trust)
	both := Files{Cert: cert, Key: key, CA: trust}
	server := mustLoad(t, both, tls.RequireAndVerifyClientCert, clk, log)
	client := mustLoad(t, both, tls.NoClientCert, clk, log)
	want := func(name string) {
		t.Helper()
		byClient, byServer, err := meet(t, server, client)
		if err != nil || byClient != name || byServer != name {
			t.Errorf("the client sees %q, the server %q, want %q, %v", byClient, byServer, name, err)
		}
	}
	want("first")
	ca.Issue(t, dir, "second", soon())
	want("first") // nobody looks more than once a second
	clk.Advance(checkInterval)
	want("second")

	// What can't be used changes nothing, and is told once.
	text.Reset()
	if err := os.WriteFile(cert, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		clk.Advance(checkInterval)
		want("second")
	}
	if n := strings.Count(text.String(), "level=ERROR"); n != 2 || !strings.Contains(text.String(), cert+" has no certificate") { // one for each side
		t.Errorf("want one error each, got\n%s", text)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	clk.Advance(checkInterval)
	want("second")
	ca.Issue(t, dir, "third", soon())
	clk.Advance(checkInterval)
	want("third")

	// Another authority: who has only the old one's certificate is not let in any more.
	other := certtest.NewCA(t)
	copyFile(t, other.File, trust)
	clk.Advance(checkInterval)
	client.RootCAs = ca.Pool()
	if _, _, err := meet(t, server, client); err == nil {
		t.Error("an authority that is gone still counts for clients")
	}
	dial, err := client.GetConfigForClient(&tls.ClientHelloInfo{})
	if err != nil || !dial.RootCAs.Equal(other.Pool()) {
		t.Errorf("who dials is not told the new authority, %v", err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestFilesThatCannotBeUsedAreNamed(t *testing.T) {
	t.Parallel()
	log, _ := logged()
	ca, dir := certtest.NewCA(t), t.TempDir()
	cert, key := ca.Issue(t, dir, "a", soon())
	_, otherKey := ca.Issue(t, t.TempDir(), "b", soon())
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text, locked := file("text", "hello"), file("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVsbG8=\n-----END ENCRYPTED PRIVATE KEY-----\n")
	damaged := file("damaged", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n")
	large := file("large", strings.Repeat("x", maxFile+1))
	for _, c := range []struct {
		files Files
		want  string
	}{
		{Files{Cert: dir + "/absent", Key: key}, dir + "/absent: no such file"},
		{Files{Cert: cert, Key: dir + "/absent"}, dir + "/absent: no such file"},
		{Files{CA: dir + "/absent"}, dir + "/absent: no such file"},
		{Files{Cert: dir, Key: key}, dir + " is not a file"},
		{Files{Cert: text, Key: key}, text + " has no certificate in PEM form"},
		{Files{Cert: key, Key: key}, key + " has no certificate in PEM form"},
		{Files{Cert: damaged, Key: key}, damaged + ": certificate 1 is damaged"},
		{Files{Cert: cert, Key: cert}, cert + " has no private key in PEM form"},
		{Files{Cert: cert, Key: locked}, locked + ": the key has a password"},
		{Files{Cert: cert, Key: otherKey}, "the key in " + otherKey + " does not go with the certificate in " + cert},
		{Files{Cert: cert}, "go together"},
		{Files{CA: key}, key + " has no certificate in PEM form"},
		{Files{CA: damaged}, damaged + ": certificate 1 is damaged"},
		{Files{CA: large}, large + " is larger than 1 MiB"},
	} {
		_, err := Load(c.files, tls.NoClientCert, log)
		if !errors.Is(err, mqerr.ErrInvalidConfig) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: want %q, got %v", c.files, c.want, err)
		}
	}
}

func TestDatesThatDoNotFitAreWarnedOf(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	for until, want := range map[time.Time]string{
		time.Now().Add(-time.Minute):   "has expired",
		time.Now().Add(24 * time.Hour): "is not valid yet",
	} {
		log, text := logged()
		cert, key := ca.Issue(t, t.TempDir(), "a", until)
		if _, err := Load(Files{Cert: cert, Key: key}, tls.NoClientCert, log); err != nil {
			t.Error(err)
		}
		if strings.Count(text.String(), "level=WARN") != 1 || !strings.Contains(text.String(), want) || !strings.Contains(text.String(), cert) {
			t.Errorf("want a warning %q of %s, got %q", want, cert, text)
		}
	}
}
