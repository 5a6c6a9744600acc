package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/raftmq/mq"
)

// asked is a terminal at which somebody does something else before he answers.
type asked struct {
	meanwhile func()
	answer    io.Reader
}

func (a *asked) Read(p []byte) (int, error) {
	if a.meanwhile != nil {
		a.meanwhile()
		a.meanwhile = nil
	}
	return a.answer.Read(p)
}

func TestGroupsThatAreDeletedInPartAreToldWithCode6(t *testing.T) {
	t.Parallel()
	b, err := mq.OpenBroker(t.Context(), mq.BrokerConfig{MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	a := mq.NewAdmin(b)
	if _, err := a.CreateTopic(t.Context(), mq.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"one", "two"} {
		if err := a.SeekGroup(t.Context(), id, []mq.GroupSeek{{Topic: "t"}}, false); err != nil {
			t.Fatal(err)
		}
	}
	var said strings.Builder
	p := &program{errOut: &said, in: &asked{answer: strings.NewReader("y\n"), meanwhile: func() {
		c, err := mq.NewConsumer(b, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "two"})
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := c.Lag(t.Context()); err != nil { // it is a member now
			t.Error(err)
		}
	}}}
	err = p.deleteGroups(t.Context(), a, []string{"one", "two"}, false, risk{})
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != exitPartly || !errors.Is(err, mq.ErrNonEmptyGroup) || !strings.Contains(err.Error(), "1 of 2 groups was deleted") {
		t.Errorf("got %v", err)
	}
	if left, err := a.ListGroups(t.Context()); err != nil || len(left) != 1 || left[0].GroupID != "two" {
		t.Errorf("left are %+v, %v; said was %q", left, err, said.String())
	}
}
