package produce_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/raftmq/mq/internal/api"
	"github.com/raftmq/mq/internal/produce"
	"github.com/raftmq/mq/internal/record"
	"github.com/raftmq/mq/internal/route"
)

// sink is a broker that acknowledges everything at once, on another goroutine.
type sink struct {
	api.Broker
	partitions int32
	work       chan func()
	offset     atomic.Int64
}

func (s *sink) Metadata(_ context.Context, req *api.MetadataRequest) (*api.MetadataResponse, error) {
	res := &api.MetadataResponse{Brokers: []api.BrokerInfo{{ID: 1}}}
	for _, name := range req.Topics {
		info := api.TopicInfo{Name: name}
		for i := range s.partitions {
			info.Partitions = append(info.Partitions, api.PartitionInfo{Index: i, Leader: 1})
		}
		res.Topics = append(res.Topics, info)
	}
	return res, nil
}

func (s *sink) InitProducer(context.Context, *api.InitProducerRequest) (*api.InitProducerResponse, error) {
	return &api.InitProducerResponse{ProducerID: 1}, nil
}

func (s *sink) Produce(_ context.Context, req *api.ProduceRequest, done func(*api.ProduceResponse, error)) {
	res := &api.ProduceResponse{Partitions: make([]api.ProduceResult, len(req.Partitions))}
	for i, p := range req.Partitions {
		res.Partitions[i] = api.ProduceResult{TopicPartition: p.TopicPartition, BaseOffset: s.offset.Add(1), AppendTime: -1}
	}
	s.work <- func() { done(res, nil) }
}

type counted struct{ wg *sync.WaitGroup }

func (c *counted) Settle(produce.Result) { c.wg.Done() }

// The engine's own cost: what a broker and a network take comes on top.
func BenchmarkEngine(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for _, partitions := range []int32{1, 16} {
			for _, codec := range []record.Codec{record.None, record.LZ4} {
				b.Run(fmt.Sprintf("size=%d/partitions=%d/codec=%v", size, partitions, codec), func(b *testing.B) {
					benchmarkEngine(b, size, partitions, codec)
				})
			}
		}
	}
}

func benchmarkEngine(b *testing.B, size int, partitions int32, codec record.Codec) {
	s := &sink{partitions: partitions, work: make(chan func(), 1024)}
	go func() {
		for fn := range s.work {
			fn()
		}
	}()
	defer close(s.work)
	r := route.New(route.Config{Local: s, LocalID: 1})
	defer r.Close()
	e := produce.New(config(func(cfg *produce.Config) { cfg.Router, cfg.Codec = r, codec }))
	defer e.Close()

	ctx := context.Background()
	value := make([]byte, size)
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for b.Loop() {
		wg.Add(1)
		if err := e.Add(ctx, "t", produce.Record{Value: value, Promise: &counted{&wg}}, false); err != nil {
			b.Fatal(err)
		}
	}
	if err := e.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
