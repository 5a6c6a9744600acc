package mq_test

import (
	"maps"
	"strconv"
	"testing"

	"github.com/raftmq/mq"
)

func TestEverythingIsThereAfterARestart(t *testing.T) {
	eachDoor(t, onDisk, func(t *testing.T, d door) {
		for _, inOrder := range []bool{true, false} {
			t.Run(map[bool]string{true: "in order", false: "cut off"}[inOrder], func(t *testing.T) {
				s := d.open(t, mq.BrokerConfig{})
				name := s.topic(t, 2, mq.ConfigRetentionBytes+"=123456789", mq.ConfigTimestampType+"=LogAppendTime")
				p := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: lastByte{}, Compression: mq.CompressionZstd})
				var sent [2][]*mq.Record
				for i := range 60 {
					r := &mq.Record{Key: []byte{byte(i)}, Value: []byte(strconv.Itoa(i))}
					if err := p.Send(soon(t), r); err != nil {
						t.Fatal(err)
					}
					sent[r.Partition] = append(sent[r.Partition], r)
				}
				c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Partitions: []int32{0}, GroupID: name, AutoCommitInterval: -1})
				if err := c.Commit(soon(t), take(t, c, 20)...); err != nil {
					t.Fatal(err)
				}
				if _, err := s.admin().TrimTopic(soon(t), name, mq.StartAt(10), 1); err != nil {
					t.Fatal(err)
				}
				before, err := s.admin().DescribeTopic(soon(t), name)
				if err != nil {
					t.Fatal(err)
				}
				cluster, err := s.admin().DescribeCluster(soon(t))
				if err != nil {
					t.Fatal(err)
				}

				s.restart(t, inOrder)

				after, err := s.admin().DescribeTopic(soon(t), name)
				if err != nil {
					t.Fatal(err)
				}
				if after.ID != before.ID || !maps.Equal(after.Configs, before.Configs) || len(after.Partitions) != 2 {
					t.Errorf("the topic was %+v and is %+v", before, after)
				}
				for i := range after.Partitions {
					a, b := after.Partitions[i], before.Partitions[i]
					if a.LogStart != b.LogStart || a.HighWatermark != b.HighWatermark || a.SizeBytes != b.SizeBytes || a.LeaderEpoch <= b.LeaderEpoch {
						t.Errorf("partition %d was %+v and is %+v", i, b, a)
					}
				}
				if again, err := s.admin().DescribeCluster(soon(t)); err != nil || again.ID != cluster.ID {
					t.Errorf("the cluster was %+v and is %+v, %v", cluster, again, err)
				}
				wantRecords(t, take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Partitions: []int32{0}}), 30), sent[0])
				wantRecords(t, take(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Partitions: []int32{1}}), 20), sent[1][10:])
				later := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, Partitions: []int32{0}, GroupID: name})
				if got := take(t, later, 1)[0]; got.Offset != 20 {
					t.Errorf("the group goes on at %d, want 20", got.Offset)
				}
				r := &mq.Record{Key: []byte{0}, Value: []byte("new")}
				if err := s.producer(t, mq.ProducerConfig{Topic: name, Partitioner: lastByte{}}).Send(soon(t), r); err != nil || r.Offset != 30 {
					t.Errorf("the next record is at %d, %v; want 30", r.Offset, err)
				}
			})
		}
	})
}

// A client whose broker lost everything goes on with what is there now.
func TestBrokerInMemoryStartsEmpty(t *testing.T) {
	t.Parallel()
	s := door{remote: true}.open(t, mq.BrokerConfig{})
	name := topicName(t)
	p := s.producer(t, mq.ProducerConfig{Topic: name})
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
	send(t, p, "old 0", "old 1", "old 2")
	take(t, c, 3)
	s.restart(t, true)
	if topics, err := s.admin().ListTopics(soon(t)); err != nil || len(topics) != 0 {
		t.Errorf("topics are %v, %v", topics, err)
	}
	send(t, p, "new 0", "new 1")
	if a, b := takeOne(t, c), takeOne(t, c); a != "new 0" || b != "new 1" {
		t.Errorf("the consumer got %q, %q", a, b)
	}
}

// What was made from a broker in this process ends with it.
func TestClosedBrokerRefuses(t *testing.T) {
	eachDoor(t, anyDoor, func(t *testing.T, d door) {
		s := d.open(t, mq.BrokerConfig{})
		name := s.topic(t, 1)
		p := s.producer(t, mq.ProducerConfig{Topic: name})
		c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
		send(t, p, "0", "1")
		take(t, c, 1)
		take(t, c, 1)
		admin := s.admin()
		if d.remote {
			if err := s.client.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := s.broker.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for _, calls := range [][]apiCall{everyProducerCall(p), everyConsumerCall(c), everyAdminCall(admin)} {
			for _, call := range calls {
				if call.name == "TrySend" {
					continue // takes what it later can't send
				}
				t.Run(call.name, func(t *testing.T) { wantError(t, call.call(soon(t)), mq.ErrClosed) })
			}
		}
		wantError(t, s.broker.WaitReady(soon(t)), mq.ErrClosed)
		wantError(t, s.broker.Err(), mq.ErrClosed)
		select {
		case <-s.broker.Done():
		default:
			t.Error("Done is open")
		}
		if stats := s.broker.Stats(); stats.Partitions != nil || stats.Connections != 0 {
			t.Errorf("stats are %+v", stats)
		}
	})
}
