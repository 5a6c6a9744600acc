package mq_test

import (
	"encoding"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

func TestConsumerConfigFaultsAreAllNamed(t *testing.T) {
	t.Parallel()
	c := newFakeCluster()
	e, _ := c.endpoint(t)
	_, err := mq.NewConsumer(e, mq.ConsumerConfig{
		Topics: []string{"a/b", "a", "a"}, Partitions: []int32{-1, 2, 2}, Start: mq.StartAt(-3), Reset: -9, Isolation: 9, ReadFrom: 9,
		MaxBytes: -1, MinBytes: -1, MaxWait: -1, PollInterval: -1, MaxBufferedBytes: -1, Timeout: -1, CloseTimeout: -1,
		Concurrency: -1, Retry: mq.RetryPolicy{Backoff: -1, MaxBackoff: -1}, DeadLetterTopic: "a",
	})
	if !errors.Is(err, mq.ErrInvalidConfig) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		`topics: mq: topic name`, `topics: "a" is there twice`, "partitions: -1", "partitions: 2 is there twice", "start: ", "reset: ", "isolation: ", "read_from: ",
		"max_bytes: ", "min_bytes: ", "max_wait: ", "poll_interval: ", "max_buffered_bytes: ", "timeout: ", "close_timeout: ",
		"concurrency: ", "retry.backoff: ", "retry.max_backoff: ", `dead_letter_topic: "a" is one of topics`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	for want, cfg := range map[string]mq.ConsumerConfig{
		"retry.backoff: 11s is above retry.max_backoff, 10s": {Topics: []string{"t"}, Retry: mq.RetryPolicy{Backoff: 11 * time.Second}},
		"dead_letter_topic: mq: topic name":                  {Topics: []string{"t"}, DeadLetterTopic: "no spaces"},
	} {
		if _, err := mq.NewConsumer(e, cfg); !errors.Is(err, mq.ErrInvalidConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	if _, err := mq.NewConsumer(e, mq.ConsumerConfig{}); !errors.Is(err, mq.ErrInvalidConfig) || !strings.Contains(err.Error(), "topics") {
		t.Errorf("without topics: %v", err)
	}
}

func TestConsumerSettingsHaveATextForm(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		value    any
		text     string
		alias    string
		mistaken string
	}{
		{mq.StartCommitted, "committed", "", "-3"},
		{mq.StartEarliest, "earliest", "-2", "oldest"},
		{mq.StartLatest, "latest", "-1", ""},
		{mq.StartAt(42), "42", "", "4x"},
		{mq.StartAtTime(time.UnixMilli(1700000000500)), "@2023-11-14T22:13:20.5Z", "@1700000000500", "@yesterday"},
		{mq.StartAtTime(time.Time{}), "@1970-01-01T00:00:00Z", "@-5", "1970"[:0]},
		{mq.ResetEarliest, "earliest", "", "never"},
		{mq.ResetLatest, "latest", "", "0"},
		{mq.ResetNone, "none", "", ""},
		{mq.ResetAgo(90 * time.Minute), "@-1h30m0s", "@-90m", "@-0s"},
		{mq.ResetAgo(-1), "latest", "", "@-yesterday"},
		{mq.ResetAgo(time.Nanosecond), "@-1ns", "", "@--1h"},
		{mq.ReadUncommitted, "read_uncommitted", "", "dirty"},
		{mq.ReadCommitted, "read_committed", "", ""},
	} {
		text, err := tt.value.(encoding.TextMarshaler).MarshalText()
		if err != nil || string(text) != tt.text {
			t.Errorf("%v is %q, %v; want %q", tt.value, text, err, tt.text)
		}
		parsed := reflect.New(reflect.TypeOf(tt.value))
		for _, s := range []string{tt.text, tt.alias} {
			if s == "" {
				continue
			}
			if err := parsed.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil || parsed.Elem().Interface() != tt.value {
				t.Errorf("%q is %v, %v; want %v", s, parsed.Elem(), err, tt.value)
			}
		}
		if err := parsed.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(tt.mistaken)); !errors.Is(err, mq.ErrInvalidConfig) {
			t.Errorf("%q: %v", tt.mistaken, err)
		}
	}
}
