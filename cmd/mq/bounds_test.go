//go:build long && unix

package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

var (
	boundsProduced = flag.Int64("bounds.produced", 20<<30, "bytes to produce")
	boundsKept     = flag.Int64("bounds.kept", 1<<30, "bytes that retention keeps, over all partitions")
	boundsDisk     = flag.Int64("bounds.disk", 3<<30, "bytes of disk that may be used")
)

// However much goes through a broker, its disk holds what retention keeps and
// a bounded rest, also when most partitions are idle and their old log entries
// lie between the new ones of others.
func TestDiskStaysBounded(t *testing.T) {
	for _, c := range []struct{ partitions, active int }{{1, 1}, {64, 4}} {
		t.Run(fmt.Sprintf("partitions=%d/active=%d", c.partitions, c.active), func(t *testing.T) {
			ctx := t.Context()
			dir := t.TempDir()
			broker, err := mq.OpenBroker(ctx, mq.BrokerConfig{DataDir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer broker.Close()
			_, err = mq.NewAdmin(broker).CreateTopic(ctx, mq.TopicSpec{
				Name: "t", Partitions: c.partitions,
				Configs: map[string]string{mq.ConfigRetentionBytes: strconv.FormatInt(*boundsKept/int64(c.active), 10)},
			})
			if err != nil {
				t.Fatal(err)
			}
			for p := range c.partitions { // idle ones hold something, too
				fill(ctx, t, broker, int32(p), 1<<20)
			}
			var peak int64
			began := time.Now()
			const step = 64 << 20
			for done := int64(0); done < *boundsProduced; done += step {
				for p := range c.active {
					fill(ctx, t, broker, int32(p), step/c.active)
				}
				used := diskUse(dir)
				if peak = max(peak, used); used > *boundsDisk {
					t.Fatalf("after %d MiB the broker uses %d MiB of disk", (done+step)>>20, used>>20)
				}
			}
			t.Logf("%d MiB in %v, never more than %d MiB of disk", *boundsProduced>>20, time.Since(began).Round(time.Second), peak>>20)
		})
	}
}

// noise does not compress.
var noise = func() []byte {
	b := make([]byte, 64<<20)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

// fill sends so many bytes to a partition.
func fill(ctx context.Context, t *testing.T, e mq.Endpoint, partition int32, n int) {
	t.Helper()
	producer, err := mq.NewProducer(e, mq.ProducerConfig{Topic: "t", Partitioner: mq.FixedPartition(partition)})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	const size = 32 << 10
	for sent := 0; sent < n; sent += size {
		at := rand.IntN(len(noise) - size)
		producer.SendAsync(ctx, &mq.Record{Value: noise[at : at+size]}, nil)
	}
	if err := producer.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// diskUse is what the files of dir take on disk.
func diskUse(dir string) (used int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, _ error) error { // files come and go
		if d != nil {
			if info, err := d.Info(); err == nil {
				used += info.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		return nil
	})
	return used
}
