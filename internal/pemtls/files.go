package pemtls

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// maxFile bounds a file; every system's authorities together have a quarter.
const maxFile = 1 << 20

// stamp tells whether a file has changed. The zero value is that of none.
type stamp struct {
	modified time.Time
	size     int64
}

func (s *source) stamps() (all [3]stamp) {
	for i, path := range []string{s.files.Cert, s.files.Key, s.files.CA} {
		if info, err := os.Stat(path); err == nil {
			all[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return all
}

func readPair(certPath, keyPath string) (cert tls.Certificate, err error) {
	certText, err := readFile(certPath)
	if err != nil {
		return cert, err
	}
	keyText, err := readFile(keyPath)
	if err != nil {
		return cert, err
	}
	if _, err := certificates(certPath, certText); err != nil {
		return cert, err
	}
	if err := checkKey(keyPath, keyText); err != nil {
		return cert, err
	}
	if cert, err = tls.X509KeyPair(certText, keyText); err != nil {
		return cert, fmt.Errorf("the key in %s does not go with the certificate in %s: %s", keyPath, certPath, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return cert, nil
}

func readPool(path string) (*x509.CertPool, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	certs, err := certificates(path, text)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

func readFile(path string) (text []byte, err error) {
	info, err := os.Stat(path) // before opening: a pipe would wait for a writer
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s is larger than 1 MiB: not a PEM file of certificates", path)
	}
	return text, err
}

// certificates returns those of a file, at least one.
func certificates(path string, text []byte) (all []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d is damaged: %s", path, len(all)+1, strings.TrimPrefix(err.Error(), "x509: "))
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no certificate in PEM form", path)
	}
	return all, nil
}

func checkKey(path string, text []byte) error {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return fmt.Errorf("%s has no private key in PEM form", path)
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if strings.HasPrefix(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return fmt.Errorf("%s: the key has a password: want one without", path)
		}
		return nil
	}
}
