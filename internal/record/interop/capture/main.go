// Command capture writes down what Kafka clients send: it runs an in-process
// Kafka stand-in on a port and puts every batch that is produced to it into
// DIR/CODEC-N.bin, until it is interrupted.
//
//	go run ./capture PORT DIR
//
// The golden files in internal/record/testdata come from it.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftmq/mq/internal/record"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: capture PORT DIR")
	}
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.AllowAutoTopicCreation())
	if err != nil {
		return err
	}
	defer cluster.Close()
	n := 0
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		for _, topic := range req.(*kmsg.ProduceRequest).Topics {
			for _, p := range topic.Partitions {
				n++
				if err := save(args[1], n, p.Records); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
		}
		return nil, nil, false
	})
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	<-interrupted
	return nil
}

func save(dir string, n int, batch []byte) error {
	info, err := record.Parse(batch)
	if err != nil {
		return err
	}
	file := fmt.Sprintf("%v-%d.bin", info.Codec, n)
	fmt.Println(file, info.Count, "records")
	return os.WriteFile(filepath.Join(dir, file), batch, 0o644)
}
