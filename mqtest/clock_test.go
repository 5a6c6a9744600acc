package mqtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/mqtest"
)

// A broker whose clock is an hour off goes by the clocks of the others: it stamps
// records with the time as they have it, and nothing is deleted before it has the
// age, neither what others stamped, by this broker, nor what it stamped, by others.
func TestAWrongClockDeletesNothing(t *testing.T) {
	for name, by := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := mqtest.NewCluster(t, 3, mqtest.ClockOff(1, by), mqtest.Config(func(cfg *mq.BrokerConfig) {
				cfg.RetentionInterval = 50 * time.Millisecond
			}))
			w := &wrongClock{t, c, mq.NewAdmin(c.Endpoint())}
			w.create("kept", "1800000", "CreateTime")
			w.create("stamped", "-1", "LogAppendTime")
			w.create("short", "1", "CreateTime")

			w.ledBy(1)
			w.until("broker 1 goes by the others' clocks", func() bool {
				off := time.Since(w.send("stamped").Timestamp)
				return off.Abs() < 10*time.Minute
			})
			for _, leader := range []int32{1, 2, 1} {
				w.ledBy(leader)
				created := time.Now().Truncate(time.Millisecond)
				if r := w.sendAt("kept", created); !r.Timestamp.Equal(created) {
					t.Errorf("a record of %v has %v", created, r.Timestamp)
				}
				gone := w.send("short").Offset
				w.until("retention to look", func() bool { return w.logStart("short") > gone })
				if start := w.logStart("kept"); start != 0 {
					t.Fatalf("led by broker %d, offsets up to %d were deleted", leader, start)
				}
			}
		})
	}
}

type wrongClock struct {
	*testing.T
	cluster *mqtest.Cluster
	admin   *mq.Admin
}

func (w *wrongClock) create(topic, retention, timestamps string) {
	w.Helper()
	_, err := w.admin.CreateTopic(w.Context(), mq.TopicSpec{Name: topic, Partitions: 1, Configs: map[string]string{
		mq.ConfigRetentionMs: retention, mq.ConfigTimestampType: timestamps,
	}})
	if err != nil {
		w.Fatal(err)
	}
}

// ledBy makes a broker lead everything.
func (w *wrongClock) ledBy(id int32) {
	w.Helper()
	w.until("it to lead", func() bool {
		for _, topic := range []string{"kept", "stamped", "short"} {
			if w.admin.TransferLeader(w.Context(), mq.TopicPartition{Topic: topic}, id) != nil || w.cluster.Leader(topic, 0) != id {
				return false
			}
		}
		return true
	})
}

func (w *wrongClock) send(topic string) *mq.Record { return w.sendAt(topic, time.Time{}) }

func (w *wrongClock) sendAt(topic string, created time.Time) *mq.Record {
	w.Helper()
	p, err := mq.NewProducer(w.cluster.Endpoint(), mq.ProducerConfig{Topic: topic})
	if err != nil {
		w.Fatal(err)
	}
	r := &mq.Record{Value: []byte("x"), Timestamp: created}
	if err := p.Send(w.Context(), r); err != nil {
		w.Fatal(err)
	}
	if err := p.Close(); err != nil {
		w.Fatal(err)
	}
	return r
}

func (w *wrongClock) logStart(topic string) int64 {
	w.Helper()
	starts, err := w.admin.ListOffsets(w.Context(), topic, mq.StartEarliest)
	if err != nil {
		w.Fatal(err)
	}
	for _, s := range starts {
		return s.Offset
	}
	w.Fatal("there is no partition")
	return 0
}

func (w *wrongClock) until(what string, cond func() bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 2*time.Minute)
	defer cancel()
	for !cond() {
		select {
		case <-ctx.Done():
			w.Fatalf("%s: not yet", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
