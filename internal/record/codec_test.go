package record_test

import (
	"errors"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

func TestCodecsAreNamesInYAML(t *testing.T) {
	for i, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		var c struct{ Compression record.Codec }
		if err := yaml.Unmarshal([]byte("compression: "+name), &c); err != nil || c.Compression != codecs[i] {
			t.Errorf("%s reads as %v, %v", name, c.Compression, err)
		}
		out, err := yaml.Marshal(c)
		if err != nil || string(out) != "compression: "+name+"\n" {
			t.Errorf("%s writes as %q, %v", name, out, err)
		}
	}
}

func TestUnknownCodecsAreErrors(t *testing.T) {
	for _, name := range []string{"", "GZIP", "brotli", "1"} {
		if c, err := record.ParseCodec(name); !errors.Is(err, mqerr.ErrInvalidConfig) {
			t.Errorf("%q reads as %v, %v", name, c, err)
		}
	}
	if _, err := record.Codec(5).MarshalText(); !errors.Is(err, mqerr.ErrInvalidConfig) {
		t.Errorf("codec 5 in text: %v", err)
	}
	if s := record.Codec(-1).String(); s != "Codec(-1)" {
		t.Errorf("codec -1 is %q", s)
	}
}
