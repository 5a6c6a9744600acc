package mqtest

import (
	"slices"
	"strings"
	"testing"

	"github.com/raftmq/mq"
)

// story builds a history from sendings like "p#0=2", acknowledged at offset 2,
// "p#1=?", unknown, "p#2=!", refused, "p#3=ok", acknowledged at an offset that was
// not told; and logs like "0:p#0 1:p#1", the first of which is what consumers get.
func story(t *testing.T, sendings string, logs ...string) *history {
	t.Helper()
	tp := mq.TopicPartition{Topic: "t"}
	h := &history{sent: map[string]*sent{}, read: map[mq.TopicPartition]copyOf{}, copies: map[mq.TopicPartition][]copyOf{}}
	for _, word := range strings.Fields(sendings) {
		name, what, _ := strings.Cut(word, "=")
		producer, number, _ := strings.Cut(name, "#")
		s := &sent{producer: producer, number: atoi(t, number), at: tp, offset: -1}
		switch what {
		case "?":
		case "!":
			s.outcome = refused
		case "ok":
			s.outcome = acknowledged
		default:
			s.outcome, s.offset = acknowledged, int64(atoi(t, what))
		}
		h.sent[s.name()] = s
	}
	for i, log := range logs {
		c := copyOf{who: "broker " + string(rune('0'+i))}
		for _, word := range strings.Fields(log) {
			if start, ok := strings.CutPrefix(word, "start="); ok {
				c.start = int64(atoi(t, start))
				continue
			}
			offset, name, _ := strings.Cut(word, ":")
			c.records = append(c.records, position{int64(atoi(t, offset)), name})
		}
		if i == 0 {
			h.read[tp] = c
		} else {
			h.copies[tp] = append(h.copies[tp], c)
		}
	}
	return h
}

func atoi(t *testing.T, s string) (n int) {
	t.Helper()
	for _, c := range s {
		if c < '0' || c > '9' {
			t.Fatalf("%q is no number", s)
		}
		n = 10*n + int(c-'0')
	}
	return n
}

func TestFaultsOfHistories(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sent string
		logs []string
		want []string
	}{
		"good":                  {"p#0=0 p#1=2 q#0=1", []string{"0:p#0 1:q#0 2:p#1"}, nil},
		"nothing":               {"", []string{""}, nil},
		"unknown and there":     {"p#0=? p#1=1", []string{"0:p#0 1:p#1"}, nil},
		"unknown and not there": {"p#0=? p#1=0", []string{"0:p#1"}, nil},
		"refused":               {"p#0=! p#1=0", []string{"0:p#1"}, nil},
		"gap":                   {"p#0=0 p#1=7", []string{"0:p#0 7:p#1"}, nil},
		"trimmed":               {"p#0=0 p#1=1", []string{"start=1 1:p#1"}, nil},
		"offset not told":       {"p#0=ok", []string{"0:p#0"}, nil},

		"lost": {"p#0=0 p#1=1 p#2=2", []string{"0:p#0 2:p#2"}, []string{"lost: p#1 was acknowledged at t/0@1 and is not there"}},
		"lost at the end": {
			"p#0=0 p#1=1",
			[]string{"0:p#0"},
			[]string{"lost: p#1 was acknowledged at t/0@1 and is not there"},
		},
		"lost, offset not told": {"p#0=ok", []string{""}, []string{"lost: p#0 was acknowledged and is not there"}},
		"replaced":              {"p#0=0 q#0=?", []string{"0:q#0"}, []string{"lost: p#0 was acknowledged at t/0@0 and is not there"}},
		"duplicate":             {"p#0=0", []string{"0:p#0 1:p#0"}, []string{"duplicate: p#0 is at t/0@0 and t/0@1"}},
		"duplicate of unknown":  {"p#0=?", []string{"0:p#0 1:p#0"}, []string{"duplicate: p#0 is at t/0@0 and t/0@1"}},
		"reordered":             {"p#0=1 p#1=0", []string{"0:p#1 1:p#0"}, []string{"reordered: p#0 is at t/0@1, behind p#1"}},
		"refused and there":     {"p#0=!", []string{"3:p#0"}, []string{"refused: p#0 was refused and is at t/0@3"}},
		"moved":                 {"p#0=0 p#1=1", []string{"0:p#0 5:p#1"}, []string{"moved: p#1 was acknowledged at t/0@1 and is at t/0@5"}},
		"never sent":            {"p#0=0", []string{"0:p#0 1:x"}, []string{`unknown: "x" is at t/0@1 and nobody sent it`}},
		"offsets go back": {
			"p#0=4 q#0=2",
			[]string{"4:p#0 2:q#0"},
			[]string{"offsets: t/0@2 was read after t/0@4"},
		},

		"copies agree":         {"p#0=0 p#1=1", []string{"0:p#0 1:p#1", "0:p#0 1:p#1", "0:p#0 1:p#1"}, nil},
		"one copy was trimmed": {"p#0=0 p#1=1", []string{"0:p#0 1:p#1", "0:p#0 1:p#1", "start=1 1:p#1"}, nil},
		"copies differ": {
			"p#0=0 p#1=1",
			[]string{"0:p#0 1:p#1", "0:p#0 1:p#1", "0:p#0 1:p#0"},
			[]string{"disagreement: at t/0@1 broker 1 has p#1 and broker 2 has p#0"},
		},
		"a copy is short": {
			"p#0=0 p#1=1",
			[]string{"0:p#0 1:p#1", "0:p#0 1:p#1", "0:p#0"},
			[]string{"disagreement: at t/0@1 broker 1 has p#1 and broker 2 has nothing"},
		},
		"a copy is long": {
			"p#0=0 p#1=?",
			[]string{"0:p#0", "0:p#0", "0:p#0 1:p#1"},
			[]string{"disagreement: at t/0@1 broker 1 has nothing and broker 2 has p#1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := story(t, c.sent, c.logs...).faults(); !slices.Equal(got, c.want) {
				t.Errorf("the checker says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}
