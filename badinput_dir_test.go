package mq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/raftmq/mq"
)

// refuseDir fails unless a broker refuses to open on the directory with an error
// that holds target, if any, and names the path.
func refuseDir(t *testing.T, dir string, target error) {
	t.Helper()
	b, err := mq.OpenBroker(soon(t), mq.BrokerConfig{DataDir: dir, MinFreeBytes: -1})
	if b != nil || err == nil {
		t.Fatalf("there is a broker on %s", dir)
	}
	if target != nil {
		wantError(t, err, target)
	}
	if !strings.Contains(err.Error(), dir) {
		t.Errorf("%v does not name %s", err, dir)
	}
}

func TestDataDirInUseIsRefused(t *testing.T) {
	t.Parallel()
	s := door{disk: true}.open(t, mq.BrokerConfig{})
	refuseDir(t, s.cfg.DataDir, mq.ErrDirInUse)
	_, err := tryChild(t, s.cfg.DataDir, "127.0.0.1:0")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitDirInUse {
		t.Errorf("another process ended with %v, want ErrDirInUse", err)
	}
	send(t, s.producer(t, mq.ProducerConfig{Topic: "t"}), "v") // neither did harm
	s.restart(t, true)
	if got := takeOne(t, s.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}})); got != "v" {
		t.Errorf("got %q", got)
	}
}

func TestDataDirInUseByAnotherProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	child := startChild(t, dir, "127.0.0.1:0")
	refuseDir(t, dir, mq.ErrDirInUse)
	child.kill(t) // a lock ends with its process
	door{disk: true}.open(t, mq.BrokerConfig{DataDir: dir})
}

func TestDataDirThatCanNotBeWrittenIsRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuseDir(t, file, nil)
	refuseDir(t, filepath.Join(file, "below"), nil)
	if b, err := os.ReadFile(file); err != nil || string(b) != "content" {
		t.Errorf("the file is %q now, %v", b, err)
	}
	if _, err := os.Stat("/proc/self"); err == nil { // which not even root can write
		refuseDir(t, "/proc/self/mq", nil)
	}
	if os.Getuid() != 0 {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		refuseDir(t, dir, fs.ErrPermission)
	}
}

func TestDirOfSomethingElseIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuseDir(t, dir, mq.ErrForeignDir)
	if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) != 1 {
		t.Errorf("it holds %v now, %v", names, err)
	}
}

func TestDataDirOfAnotherBrokerIsRefused(t *testing.T) {
	t.Parallel()
	s := door{disk: true}.open(t, mq.BrokerConfig{ID: 7})
	if err := s.broker.Close(); err != nil {
		t.Fatal(err)
	}
	refuseDir(t, s.cfg.DataDir, mq.ErrInvalidConfig)
}

func TestDataDirOfANewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	s := door{disk: true}.open(t, mq.BrokerConfig{})
	if err := s.broker.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(s.cfg.DataDir, "FORMAT")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	// As a newer version would have written it: the checksum is that of the file
	// with a checksum of zero.
	_, body, _ := bytes.Cut(b, []byte("\n"))
	newer := func(sum uint32) []byte {
		return append(fmt.Appendf(nil, "mq data directory, format 99, crc32c %08x\n", sum), body...)
	}
	if err := os.WriteFile(name, newer(crc32.Checksum(newer(0), crc32.MakeTable(crc32.Castagnoli))), 0o600); err != nil {
		t.Fatal(err)
	}
	refuseDir(t, s.cfg.DataDir, mq.ErrNewerFormat)
	// And as it was: nothing was changed on the way.
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t)
}

// damage is what happens to a file.
var damages = map[string]func(b []byte) []byte{
	"a flipped bit":      func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
	"a flipped last bit": func(b []byte) []byte { b[len(b)-1] ^= 0x80; return b },
	"half of it":         func(b []byte) []byte { return b[:len(b)/2] },
}

// Whatever happens to a file of the data directory, the broker either names the
// file and refuses, or serves what it acknowledged; it never serves less, or
// anything else, and never takes the process down.
func TestDamagedFileIsFoundOrDoesNoHarm(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := door{disk: true}.open(t, mq.BrokerConfig{DataDir: filepath.Join(dir, "sound")})
	p := s.producer(t, mq.ProducerConfig{Topic: "t", BatchSize: 1})
	var want strings.Builder
	fill := func() {
		t.Helper()
		for range 40 {
			value := noise(2000)
			p.SendAsync(soon(t), &mq.Record{Value: value}, nil)
			fmt.Fprintf(&want, "%x\n", value)
		}
		if err := p.Flush(soon(t)); err != nil {
			t.Fatal(err)
		}
		c := s.consumer(t, mq.ConsumerConfig{Topics: []string{"t"}, GroupID: "g"})
		if err := c.Commit(soon(t), take(t, c, 1)...); err != nil {
			t.Fatal(err)
		}
	}
	// One part is in the files of an earlier life, one is still in the raft log.
	fill()
	s.restart(t, true)
	p = s.producer(t, mq.ProducerConfig{Topic: "t", BatchSize: 1})
	fill()
	if err := s.broker.Close(); err != nil {
		t.Fatal(err)
	}

	var names []string
	err := filepath.WalkDir(s.cfg.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, statErr := d.Info(); statErr == nil && info.Size() > 0 {
				rel, _ := filepath.Rel(s.cfg.DataDir, path)
				names = append(names, rel)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 5 {
		t.Fatalf("there are only %v", names)
	}
	found := 0
	for i, name := range names {
		for what, damage := range damages {
			broken := filepath.Join(dir, fmt.Sprint(i, "-", len(what)))
			if err := os.CopyFS(broken, os.DirFS(s.cfg.DataDir)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(broken, name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			got, stderr, code := readDir(t, broken)
			switch {
			case code == 0 && got == want.String():
			case code == 0:
				t.Errorf("%s of %s: %d of %d bytes came out, and no error", what, name, len(got), want.Len())
			case !strings.HasPrefix(want.String(), got):
				t.Errorf("%s of %s: something else came out before %s", what, name, stderr)
			case code != exitCorruptLog:
				t.Errorf("%s of %s: no ErrCorruptLog, but exit code %d: %.2000s", what, name, code, stderr)
			case !strings.Contains(stderr, filepath.Base(name)):
				t.Errorf("%s of %s: the file is not named in %s", what, name, stderr)
			default:
				found++
			}
			if err := os.RemoveAll(broken); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d of %d damages were found, the others did no harm", found, len(names)*len(damages))
	if found == 0 {
		t.Error("no damage was found at all")
	}
}

// readDir reads topic t of a data directory in a process of its own, which a
// fault of an engine may take down.
func readDir(t *testing.T, dir string) (stdout, stderr string, exitCode int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(soon(t), os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"=read", childDir+"="+dir)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// The fence as a program meets it; package cluster tests how it goes up and
// down with the disk.
func TestNearlyFullDiskRefusesRecordsAndServesReads(t *testing.T) {
	t.Parallel()
	s := door{remote: true, disk: true}.open(t, mq.BrokerConfig{})
	name := s.topic(t, 1)
	send(t, s.producer(t, mq.ProducerConfig{Topic: name}), "0", "1", "2")
	s.stop(t, true)
	s.cfg.MinFreeBytes = 1 << 60 // more than there is
	s.start(t)

	eventually(t, "the broker has looked", func() bool { return errors.Is(s.broker.Stats().Fenced, mq.ErrDiskFull) })
	p := s.producer(t, mq.ProducerConfig{Topic: name, DeliveryTimeout: 200 * time.Millisecond})
	eventually(t, "a record is refused for lack of space", func() bool {
		err := p.Send(soon(t), &mq.Record{Value: []byte("no")})
		if err == nil || mq.OutcomeUnknown(err) {
			t.Fatalf("%v says that it may be stored", err)
		}
		return errors.Is(err, mq.ErrDiskFull) // else it came too late to be refused
	})
	eventually(t, "a topic is refused for lack of space", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := s.admin().CreateTopic(ctx, mq.TopicSpec{Name: "new"})
		return errors.Is(err, mq.ErrDiskFull)
	})
	if got := scrape(t, s.broker)["mq_storage_read_only"]; got != 1 {
		t.Errorf("mq_storage_read_only is %v", got)
	}
	// Reads, commits and the trims that free space go on.
	c := s.consumer(t, mq.ConsumerConfig{Topics: []string{name}, GroupID: name})
	if err := c.Commit(soon(t), take(t, c, 3)...); err != nil {
		t.Error(err)
	}
	if _, err := s.admin().TrimTopic(soon(t), name, mq.StartAt(1)); err != nil {
		t.Error(err)
	}
	// A producer that waits goes on by itself when there is space.
	patient := s.producer(t, mq.ProducerConfig{Topic: name})
	told := make(chan error, 1)
	patient.SendAsync(soon(t), &mq.Record{Value: []byte("3")}, func(_ *mq.Record, err error) { told <- err })
	s.stop(t, true)
	s.cfg.MinFreeBytes = -1
	s.start(t)
	if err := <-told; err != nil {
		t.Errorf("with space again: %v", err)
	}
	take(t, c, 1)
}
