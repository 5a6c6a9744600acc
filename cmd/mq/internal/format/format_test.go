package format_test

import (
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/format"
)

var record = mq.Record{
	Topic: "orders", Partition: 3, Offset: 42, LeaderEpoch: 7,
	Key: []byte("k\x00"), Value: []byte("hello"),
	Headers:   []mq.Header{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("22")}},
	Timestamp: time.Date(2026, 5, 4, 3, 2, 1, 6e6, time.UTC),
}

func TestPatternsPrintRecords(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		``:                         "",
		`%v\n`:                     "hello\n",
		`[%t:%p:%o] %v`:            "[orders:3:42] hello",
		`%T %K %V %H %e`:           "6 2 5 2 7",
		`%d`:                       "1777863721006",
		`%d{rfc3339}`:              "2026-05-04T03:02:01.006Z",
		`100%% %k{hex} %v{base64}`: "100% 6b00 aGVsbG8=",
		`%h{%k=%v;}%v`:             "a=1;b=22;hello",
		`%h{%K:%V%v{hex}\x7d %o}`:  "1:131} 421:23232} 42",
		`%v{json}{}`:               "hello{json}{}",
		`\t\r\\\x00ÿ`:              "\t\r\\\x00ÿ",
	} {
		f, err := format.Parse(pattern)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := string(f.Append([]byte("> "), &record)); got != "> "+want {
			t.Errorf("%s: got %q, want %q", pattern, got, want)
		}
	}
}

func TestNullHasALengthOfItsOwn(t *testing.T) {
	t.Parallel()
	f, err := format.Parse(`%K%k %V%v%h{ %K %V}`)
	if err != nil {
		t.Fatal(err)
	}
	r := mq.Record{Value: []byte{}, Headers: []mq.Header{{}, {Value: []byte{}}}}
	if got := string(f.Append(nil, &r)); got != "-1 0 0 -1 0 0" {
		t.Errorf("got %q", got)
	}
}

func TestBadPatternsAreRefused(t *testing.T) {
	t.Parallel()
	for pattern, reason := range map[string]string{
		`%`: "ends in a %", `%z`: "no verb %z", `%h`: "%h wants", `%h{%v`: "not closed", `%h{%h{}}`: "no verb %h",
		`\`: `ends in a \`, `\q`: `no escape \q`, `\x1`: "hexadecimal", `\xgg`: "hexadecimal",
	} {
		if _, err := format.Parse(pattern); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: got error %v, want one about %q", pattern, err, reason)
		}
	}
}

func FuzzParseNeverPanics(f *testing.F) {
	f.Add(`%h{%k=%v{hex}}\x00%d{rfc3339}%%`)
	f.Fuzz(func(_ *testing.T, pattern string) {
		if p, err := format.Parse(pattern); err == nil {
			p.Append(nil, &record)
		}
	})
}
