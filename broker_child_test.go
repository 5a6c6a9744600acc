package mq_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// Environment of a process that a test starts: this test program again.
const (
	childRole   = "MQ_TEST_ROLE"   // what it is to do
	childDir    = "MQ_TEST_DIR"    // data directory of its broker
	childListen = "MQ_TEST_LISTEN" // address that its broker serves on
)

// childMain is main of such a process. It ends when its stdin does.
func childMain(role string) int {
	var err error
	switch role {
	case "broker":
		err = childBroker()
	case "quiet":
		err = childQuiet()
	case "read":
		err = childRead()
	case "forget":
		err = childForget()
	default:
		err = fmt.Errorf("no such role: %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return exitCode(err)
}

// How such a process says what kind of error it ended with.
const (
	exitOther = 1 + iota
	exitDirInUse
	exitCorruptLog
)

func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, mq.ErrDirInUse):
		return exitDirInUse
	case errors.Is(err, mq.ErrCorruptLog):
		return exitCorruptLog
	}
	return exitOther
}

// childBroker serves until stdin ends and prints its address when it does.
func childBroker() error {
	b, err := mq.OpenBroker(context.Background(), mq.BrokerConfig{
		DataDir: os.Getenv(childDir), Listen: os.Getenv(childListen), MinFreeBytes: -1,
	})
	if err != nil {
		return err
	}
	fmt.Println("serving", b.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, b.Close())
}

// childProcess is a broker in a process of its own.
type childProcess struct {
	addr   string
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr *bytes.Buffer
	ended  func() error // waits for the process, once
}

// startChild starts a broker in another process and waits until it serves.
func startChild(t testing.TB, dir, listen string) *childProcess {
	t.Helper()
	c, err := tryChild(t, dir, listen)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tryChild is startChild whose broker may refuse to open. The error is that of
// the process then, an *exec.ExitError, with what it printed.
func tryChild(t testing.TB, dir, listen string) (*childProcess, error) {
	t.Helper()
	c := &childProcess{cmd: exec.Command(os.Args[0]), stderr: &bytes.Buffer{}}
	c.cmd.Env = append(os.Environ(), childRole+"=broker", childDir+"="+dir, childListen+"="+listen)
	c.cmd.Stderr = c.stderr
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdin = stdin
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.ended = sync.OnceValue(c.cmd.Wait)
	t.Cleanup(func() {
		c.stdin.Close()
		stuck := time.AfterFunc(time.Minute, func() { c.cmd.Process.Kill() })
		c.ended()
		stuck.Stop()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "serving ")
	if err != nil || !ok {
		return nil, fmt.Errorf("broker process: %w: %s", c.ended(), c.stderr)
	}
	c.addr = addr
	return c, nil
}

// kill ends the process as kill -9 does.
func (c *childProcess) kill(t testing.TB) {
	t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.ended()
}

// childQuiet does with brokers what programs do; see TestPrintsNothing.
func childQuiet() error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "mq")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, cfg := range []mq.BrokerConfig{
		{}, {Listen: "127.0.0.1:0"}, {DataDir: dir, MinFreeBytes: -1}, {DataDir: dir, Listen: "127.0.0.1:0", MinFreeBytes: -1},
	} {
		b, err := mq.OpenBroker(ctx, cfg)
		if err != nil {
			return err
		}
		p, err := mq.NewProducer(b, mq.ProducerConfig{Topic: "t"})
		if err != nil {
			return err
		}
		if err := p.Send(ctx, &mq.Record{Value: []byte("v")}); err != nil {
			return err
		}
		c, err := mq.NewConsumer(b, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		if err != nil {
			return err
		}
		if _, err := c.Poll(ctx, 1); err != nil {
			return err
		}
		if err := errors.Join(c.Close(), p.Close(), b.Close()); err != nil {
			return err
		}
	}
	return nil
}

// childRead opens a broker on a directory that may be damaged and prints the
// values of topic t, one a line, if it gets that far.
func childRead() error {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	b, err := mq.OpenBroker(ctx, mq.BrokerConfig{DataDir: os.Getenv(childDir), MinFreeBytes: -1})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer b.Close()
	ends, err := mq.NewAdmin(b).ListOffsets(ctx, "t", mq.StartLatest)
	if err != nil {
		return err
	}
	c, err := mq.NewConsumer(b, mq.ConsumerConfig{Topics: []string{"t"}})
	if err != nil {
		return err
	}
	defer c.Close()
	for range ends[0].Offset {
		r, err := c.Poll(ctx, 1)
		if err != nil {
			return err
		}
		fmt.Printf("%x\n", r[0].Value)
	}
	return nil
}

// childForget closes brokers that hold records, and then wants to have their
// memory back.
func childForget() error {
	ctx := context.Background()
	before := heap()
	for i := range 3 {
		b, err := mq.OpenBroker(ctx, mq.BrokerConfig{})
		if err != nil {
			return err
		}
		p, err := mq.NewProducer(b, mq.ProducerConfig{Topic: "t"})
		if err != nil {
			return err
		}
		value := noise(100 << 10)
		for range 200 {
			p.SendAsync(ctx, &mq.Record{Value: value}, nil)
		}
		if err := errors.Join(p.Flush(ctx), p.Close(), b.Close()); err != nil {
			return err
		}
		b, p = nil, nil
		if left := heap() - before; left > 5<<20 {
			return fmt.Errorf("broker %d left %d bytes behind", i, left)
		}
	}
	return nil
}
