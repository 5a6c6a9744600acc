// Command pipeline shows a data pipeline: raw lines come in, a transformer
// makes measurements of them, a loader brings these into a database.
//
//	go run ./docs/examples/pipeline
//
// The transformer crashes half-way, at the worst moment, and is started again.
// Nothing is lost and nothing is counted twice.
package main

import (
	"context"
	"fmt"
	"log"
	"strconv"
	"strings"
	"time"

	"github.com/raftmq/mq"
)

const (
	raw     = "raw"     // lines as they came in
	clean   = "clean"   // key: sensor, value: a number
	garbage = "garbage" // lines that make no sense, for people to look at

	rawLines = 200
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	broker, err := mq.OpenBroker(ctx, mq.BrokerConfig{})
	if err != nil {
		return err
	}
	defer broker.Close()
	producer, err := mq.NewProducer(broker, mq.ProducerConfig{}) // each record names its topic
	if err != nil {
		return err
	}
	defer producer.Close()

	if err := extract(ctx, producer); err != nil {
		return err
	}
	if err := transform(ctx, broker, producer, 100); err != nil {
		return err
	}
	if err := transform(ctx, broker, producer, -1); err != nil {
		return err
	}
	db := &database{sums: map[string]float64{}, counted: map[string]bool{}}
	if err := load(ctx, broker, db); err != nil {
		return err
	}
	fmt.Printf("database: north %.0f, south %.0f\n", db.sums["north"], db.sums["south"])
	return nil
}

// extract stands for whatever brings data in, such as `mq produce raw < file`.
func extract(ctx context.Context, producer *mq.Producer) error {
	lines := make([]*mq.Record, rawLines)
	for i := range lines {
		text := fmt.Sprintf("%s;%d", []string{"north", "south"}[i%2], i)
		if i%50 == 7 {
			text = "???"
		}
		lines[i] = &mq.Record{Topic: raw, Value: []byte(text)}
	}
	return producer.SendBatch(ctx, lines...)
}

// transform makes measurements of all lines. It stores how far it got by hand,
// and only when its output is acknowledged: a crash in between makes it write
// some output twice, and never lose any. At offset crash it does that.
func transform(ctx context.Context, e mq.Endpoint, producer *mq.Producer, crash int64) error {
	consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{Topics: []string{raw}, GroupID: "transformer", AutoCommitInterval: -1})
	if err != nil {
		return err
	}
	defer consumer.Close()
	for next := int64(0); next < rawLines; {
		lines, err := consumer.Poll(ctx, 40)
		if err != nil {
			return err
		}
		output := make([]*mq.Record, len(lines))
		for i, line := range lines {
			output[i] = measurement(line)
		}
		if err := producer.SendBatch(ctx, output...); err != nil {
			return err
		}
		first := lines[0].Offset
		next = first + int64(len(lines))
		if first <= crash && crash < next {
			fmt.Println("transformer: crashed; what it wrote last will be written again")
			return nil
		}
		if err := consumer.Commit(ctx, lines...); err != nil {
			return err
		}
	}
	return nil
}

// measurement makes a record for clean of a line, or one for garbage. A header
// says which line it was.
func measurement(line *mq.Record) *mq.Record {
	from := []mq.Header{{Key: "line", Value: fmt.Append(nil, line.Offset)}}
	sensor, value, _ := strings.Cut(string(line.Value), ";")
	if _, err := strconv.ParseFloat(value, 64); err != nil {
		return &mq.Record{Topic: garbage, Value: line.Value, Headers: from}
	}
	return &mq.Record{Topic: clean, Key: []byte(sensor), Value: []byte(value), Headers: from}
}

// database stands for a real one, in which data and the offset of the data that
// comes next change in one transaction: then no crash can get between them.
type database struct {
	sums    map[string]float64
	counted map[string]bool // by line
	next    int64
}

// load reads clean from where the database says to its end. What comes twice is
// counted once, by the line it came from.
func load(ctx context.Context, e mq.Endpoint, db *database) error {
	end, err := mq.NewAdmin(e).ListOffsets(ctx, clean, mq.StartLatest, 0)
	if err != nil {
		return err
	}
	consumer, err := mq.NewConsumer(e, mq.ConsumerConfig{Topics: []string{clean}, Start: mq.StartAt(db.next)})
	if err != nil {
		return err
	}
	defer consumer.Close()
	for db.next < end[0].Offset {
		records, err := consumer.Poll(ctx, 100)
		if err != nil {
			return err
		}
		for _, r := range records {
			value, err := strconv.ParseFloat(string(r.Value), 64)
			if err != nil {
				return err
			}
			if line := string(r.Headers[0].Value); !db.counted[line] {
				db.counted[line] = true
				db.sums[string(r.Key)] += value
			}
			db.next = r.Offset + 1
		}
	}
	return nil
}
