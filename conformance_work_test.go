package mq_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

var conformWork = []behaviour{
	{"a work queue keeps the order of keys and what can't be done", testWorkQueue},
}

func testWorkQueue(t *testing.T, s *site) {
	const n, keys = 600, 20
	name := s.topic(t, 2)
	dead := name + "-dead"
	if len(dead) > 200 {
		dead = dead[len(dead)-200:]
	}
	p := s.producer(t, mq.ProducerConfig{Topic: name, BatchSize: 50})
	var jobs []*mq.Record
	for i := range n {
		jobs = append(jobs, &mq.Record{Key: fmt.Append(nil, i%keys), Value: []byte(strconv.Itoa(i))})
	}
	if err := p.SendBatch(soon(t), jobs...); err != nil {
		t.Fatal(err)
	}
	hopeless := errors.New("hopeless")
	c := s.consumer(t, mq.ConsumerConfig{
		Topics: []string{name}, GroupID: name, Concurrency: 16, DeadLetterTopic: dead, AutoCommitInterval: 10 * time.Millisecond,
		Retry: mq.RetryPolicy{MaxAttempts: 3, Backoff: time.Millisecond},
	})
	ctx, stop := context.WithCancel(soon(t))
	defer stop()
	var mu sync.Mutex
	next, attempts := map[int]int{}, map[int]int{}
	r := make(chan error, 1)
	go func() {
		r <- c.Run(ctx, mq.HandlerFunc(func(_ context.Context, r *mq.Record) error {
			i, err := strconv.Atoi(string(r.Value))
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			attempts[i]++
			if i%100 == 42 {
				next[i%keys] = i/keys + 1
				return hopeless
			}
			if i/keys != next[i%keys] {
				t.Errorf("key %d: job %d came instead of %d", i%keys, i/keys, next[i%keys])
			}
			if i%100 == 7 && attempts[i] == 1 {
				panic("not now")
			}
			next[i%keys]++
			return nil
		}))
	}()
	eventually(t, "everything is committed", func() bool {
		lag, err := s.admin().GroupLag(soon(t), name)
		return err == nil && len(lag) == 2 && lag[0].Lag+lag[1].Lag == 0 && lag[0].CommittedOffset+lag[1].CommittedOffset == n
	})
	letters := take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{dead}}), n/100)
	stop()
	if err := <-r; err != nil {
		t.Fatal(err)
	}
	for _, l := range letters {
		i, _ := strconv.Atoi(string(l.Value))
		headers := map[string]string{}
		for _, h := range l.Headers {
			headers[h.Key] = string(h.Value)
		}
		if i%100 != 42 || attempts[i] != 3 || string(l.Key) != string(jobs[i].Key) ||
			headers[mq.HeaderDeadLetterError] != "hopeless" || headers[mq.HeaderDeadLetterOffset] != fmt.Sprint(jobs[i].Offset) ||
			headers[mq.HeaderDeadLetterTopic] != name || headers[mq.HeaderDeadLetterGroup] != name {
			t.Errorf("a letter of job %d, tried %d times: %v", i, attempts[i], headers)
		}
	}
}
