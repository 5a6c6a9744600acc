package network

import "sync/atomic"

// counters are what Stats reports.
type counters struct {
	broken, refused                              atomic.Uint64
	batchesSent, batchesDropped, batchesReceived atomic.Uint64
	snapshotBytes                                atomic.Uint64
}

// Stats is what a link has done so far.
type Stats struct {
	Connections     int    // now, made by either side
	CallsInFlight   int    // now, made by this side
	Broken          uint64 // connections that ended unexpectedly
	Refused         uint64 // connections that this side refused
	BatchesSent     uint64 // of raft messages
	BatchesDropped  uint64 // because there was no connection or no room
	BatchesReceived uint64
	SnapshotBytes   uint64 // sent and accepted
}

// Stats returns a snapshot of the counters.
func (l *Link) Stats() Stats {
	s := Stats{
		Broken: l.stats.broken.Load(), Refused: l.stats.refused.Load(),
		BatchesSent: l.stats.batchesSent.Load(), BatchesDropped: l.stats.batchesDropped.Load(),
		BatchesReceived: l.stats.batchesReceived.Load(), SnapshotBytes: l.stats.snapshotBytes.Load(),
	}
	conns := l.conns()
	s.Connections = len(conns)
	for _, c := range conns {
		s.CallsInFlight += c.asked.inFlight()
	}
	return s
}
