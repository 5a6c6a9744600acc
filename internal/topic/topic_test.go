package topic_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/internal/topic"
)

func TestCheckNameFollowsKafkasRule(t *testing.T) {
	for _, name := range []string{"a", "orders.v1", "A_b-c.9", strings.Repeat("x", 249)} {
		if err := topic.CheckName(name); err != nil {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a b", "a/b", "é", "a\x00", strings.Repeat("x", 250)} {
		if err := topic.CheckName(name); !errors.Is(err, mqerr.ErrInvalidTopic) {
			t.Errorf("CheckName(%q) = %v, want ErrInvalidTopic", name, err)
		}
	}
}

func TestParseReadsEveryConfig(t *testing.T) {
	c, err := topic.Parse(map[string]string{
		topic.RetentionMs: "1000", topic.RetentionBytes: "5", topic.MaxMessageBytes: "77", topic.TimestampType: "LogAppendTime",
	})
	want := topic.Config{Retention: time.Second, RetentionBytes: 5, MaxMessageBytes: 77, LogAppendTime: true}
	if err != nil || c != want {
		t.Fatalf("Parse = %+v, %v, want %+v", c, err, want)
	}
	if c, err := topic.Parse(map[string]string{topic.RetentionMs: "-1"}); err != nil || c.Retention >= 0 {
		t.Fatalf("retention.ms=-1 gave %v, %v", c.Retention, err)
	}
	if c, err := topic.Parse(map[string]string{topic.RetentionMs: "9223372036854775807"}); err != nil || c.Retention <= 0 {
		t.Fatalf("largest retention.ms gave %v, %v", c.Retention, err)
	}
}

func TestParseNamesTheBadConfig(t *testing.T) {
	for name, value := range map[string]string{
		"retention.hours": "1", topic.RetentionMs: "soon", topic.RetentionBytes: "-2",
		topic.MaxMessageBytes: "0", topic.TimestampType: "Now",
	} {
		_, err := topic.Parse(map[string]string{name: value})
		if !errors.Is(err, mqerr.ErrInvalidConfig) || !strings.Contains(err.Error(), name) {
			t.Errorf("Parse(%s=%s) = %v, want ErrInvalidConfig naming it", name, value, err)
		}
	}
}

func TestMapReadsBackEqual(t *testing.T) {
	for _, c := range []topic.Config{
		topic.Default(),
		{Retention: -1, RetentionBytes: 9, MaxMessageBytes: 8, LogAppendTime: true},
	} {
		got, err := topic.Parse(c.Map())
		if err != nil || got != c {
			t.Errorf("Parse(Map(%+v)) = %+v, %v", c, got, err)
		}
	}
}
