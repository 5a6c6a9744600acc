package raftlog

// Stats is a snapshot of what the log holds and has done.
type Stats struct {
	DiskBytes    int64 // size of all files, prepared ones too
	Files        int64 // how many there are
	LiveBytes    int64 // about how much of that is entries that are still wanted
	Entries      int64 // how many these are
	MemoryBytes  int64 // recent entries in memory
	Replicas     int   // known ones
	Syncs        int64 // syncs of segments by commits, since the log was opened
	Groups       int64 // groups written
	WrittenBytes int64 // bytes of these
	ReadBack     int64 // entries read from segments
	Carried      int64 // entries copied out of mostly dead segments
	DiskFull     bool  // the next segment waits for room on the disk
}

// Stats returns a snapshot.
func (l *Log) Stats() Stats {
	s := Stats{
		DiskBytes: l.prep.bytes.Load(), Files: l.prep.files.Load(), DiskFull: l.prep.full.Load(),
		Syncs: l.counters.syncs.Load(), Groups: l.counters.groups.Load(),
		WrittenBytes: l.counters.bytes.Load(), ReadBack: l.counters.readBack.Load(), Carried: l.counters.carried.Load(),
	}
	l.index.mu.Lock()
	defer l.index.mu.Unlock()
	s.LiveBytes, s.Entries = l.index.live, l.index.entries
	s.MemoryBytes, s.Replicas = l.index.window.bytes, len(l.index.replicas)
	return s
}

// ReplicaBytes is about how many bytes the entries of a replica take.
func (l *Log) ReplicaBytes(shardID, replicaID uint64) (bytes int64) {
	l.index.mu.Lock()
	defer l.index.mu.Unlock()
	if r := l.index.replicas[nodeID{shardID, replicaID}]; r != nil {
		for _, run := range r.runs {
			bytes += run.bytes
		}
	}
	return bytes
}
