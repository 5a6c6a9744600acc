package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"

	"github.com/raftmq/mq/internal/api"
)

// childRole tells a copy of the test's program what to do in a process of its own.
const childRole = "MQ_CLUSTER_TEST_ROLE"

// TestMain runs the tests, or a role in a process of its own, and then demands
// that every goroutine has ended.
func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := hold(role, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// hold is the role "hold": it opens a data directory, says that it is there and
// stays until its input ends or it is killed. "hold N" also makes topic t with N
// partitions and writes to each.
func hold(role, dir string) error {
	ctx := context.Background()
	n, err := Open(ctx, Config{Dir: dir})
	if err != nil {
		return err
	}
	var partitions int32
	if _, err := fmt.Sscanf(role, "hold %d", &partitions); err == nil {
		if _, err := n.CreateTopic(ctx, &api.CreateTopicRequest{Name: "t", Partitions: partitions}); err != nil {
			return err
		}
		for i := range 10 * partitions {
			if _, err := produce(ctx, n, "t", i%partitions, makeBatchOf([]string{fmt.Sprint(i)})); err != nil {
				return err
			}
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return n.Close()
}

// inAnotherProcess starts a role and returns when it is there. stop lets it end
// in order, or kills it.
func inAnotherProcess(tb testing.TB, role, dir string) (stop func(kill bool)) {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), os.Args[0], dir)
	cmd.Env = append(os.Environ(), childRole+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		tb.Fatalf("%s said %q, %v", role, line, err)
	}
	return func(kill bool) {
		tb.Helper()
		if kill {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return
		}
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			tb.Errorf("%s: %v", role, err)
		}
	}
}
