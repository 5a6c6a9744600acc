package network

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/internal/mqerr"
)

// What version 1 of the protocol looks like is in testdata: brokers of different
// versions work together while a cluster is upgraded.
func TestWireFormatOfVersion1(t *testing.T) {
	t.Parallel()
	self := Identity{ClusterID: "cluster", BrokerID: 2, DirectoryID: "directory", Addr: "host:9092", Feature: 3}
	busy := &remoteError{reason: mqerr.ErrBusy.Reason(), text: "why"}
	detail := &mqerr.Detail{Err: busy, Leader: 3, LeaderAddr: "there", LeaderEpoch: 7, LogStart: -1, HighWatermark: 1 << 40}
	messages, err := encodeMessages(raftpb.MessageBatch{SourceAddress: "directory", DeploymentId: 4, BinVer: 210, Requests: []raftpb.Message{
		{Type: raftpb.Replicate, To: 1, From: 2, ShardID: 3, Term: 4, Entries: []raftpb.Entry{{Term: 4, Index: 5, Cmd: []byte("cmd")}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, w := range []struct {
		name  string
		bytes []byte
	}{
		{"hello", hello{class: classCalls, from: self, to: "other"}.encode()},
		{"welcome", welcomeOf(self, nil).encode()},
		{"refusal", welcomeOf(self, &RefusedError{Cause: ErrWrongDirectory, Text: "why"}).encode()},
		{"ping", seal(newFrame(kindPing, 0))},
		{"bye", seal(newFrame(kindBye, 0))},
		{"messages", messages},
		{"chunk", chunkFrame(300, raftpb.Chunk{ShardID: 1, ReplicaID: 2, From: 3, Data: []byte("data"), Filepath: "f", Index: 4, Term: 5})},
		{"request", requestFrame(300, 1500, "method", []byte("payload"))},
		{"answer", answerFrame(300, []byte("payload"), nil)},
		{"error", answerFrame(300, nil, busy)},
		{"facts", answerFrame(300, nil, detail)},
		{"cancel", cancelFrame(300)},
	} {
		got.WriteString(w.name + " " + hex.EncodeToString(w.bytes) + "\n")
	}
	want, err := os.ReadFile(filepath.Join("testdata", "wire-1.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, []byte(got.String())) {
		t.Errorf("the wire format has changed without a new version:\n%s", got.String())
	}
}
