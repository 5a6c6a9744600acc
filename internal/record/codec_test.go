package record_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/record"
)

// JSON goes through the same methods as YAML.
func TestCodecsAreNamesInText(t *testing.T) {
	for i, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		var c record.Codec
		if err := json.Unmarshal([]byte(`"`+name+`"`), &c); err != nil || c != codecs[i] {
			t.Errorf("%s reads as %v, %v", name, c, err)
		}
		if out, err := json.Marshal(c); err != nil || string(out) != `"`+name+`"` {
			t.Errorf("%s writes as %q, %v", name, out, err)
		}
	}
}

func TestUnknownCodecsAreErrors(t *testing.T) {
	for _, name := range []string{"", "GZIP", "brotli", "1"} {
		var c record.Codec
		if err := c.UnmarshalText([]byte(name)); !errors.Is(err, mqerr.ErrInvalidConfig) {
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
