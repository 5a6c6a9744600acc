package cluster

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4/logger"
)

// Importing dragonboat does two things to a process that a guest must not do,
// both repaired here: it takes over Go's log package, and its logger is
// process-wide, may be set once and writes to the terminal.

func init() {
	// capnslog's init ran before ours. Only its own writer is replaced: a
	// program that has set its writer since keeps it.
	if fmt.Sprintf("%T", log.Writer()) == "capnslog.packageWriter" {
		log.SetFlags(log.LstdFlags)
		log.SetOutput(os.Stderr)
	}
}

// raftLog receives what raft logs in this process: that of the node opened
// last which was given a logger. Nil is silent.
var raftLog atomic.Pointer[slog.Logger]

var takeRaftLogger = sync.OnceFunc(func() {
	// It panics if the embedding program, a dragonboat user itself, has set its
	// own factory; then raft logs there.
	defer func() { _ = recover() }()
	logger.SetLoggerFactory(func(pkg string) logger.ILogger { return raftLogger{pkg} })
})

// raftLogger adapts dragonboat's logger to slog. Elections come as warnings and
// every compaction as info there, so each level is taken down by one.
type raftLogger struct{ pkg string }

// SetLevel implements logger.ILogger: slog's handler decides.
func (l raftLogger) SetLevel(logger.LogLevel) {}

// Debugf implements logger.ILogger.
func (l raftLogger) Debugf(string, ...any) {}

// Infof implements logger.ILogger.
func (l raftLogger) Infof(format string, args ...any) { l.emit(slog.LevelDebug, format, args) }

// Warningf implements logger.ILogger.
func (l raftLogger) Warningf(format string, args ...any) { l.emit(slog.LevelInfo, format, args) }

// Errorf implements logger.ILogger.
func (l raftLogger) Errorf(format string, args ...any) { l.emit(slog.LevelError, format, args) }

// Panicf implements logger.ILogger. It must panic: dragonboat counts on not
// going on.
func (l raftLogger) Panicf(format string, args ...any) {
	l.emit(slog.LevelError, format, args)
	panic(fmt.Sprintf(format, args...))
}

func (l raftLogger) emit(level slog.Level, format string, args []any) {
	if lg := raftLog.Load(); lg != nil && lg.Enabled(context.Background(), level) {
		lg.Log(context.Background(), level, fmt.Sprintf(format, args...), "raft", l.pkg)
	}
}
