package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/raftmq/mq/internal/backoff"
	"github.com/raftmq/mq/internal/mqerr"
	"github.com/raftmq/mq/storage"
)

var errNotJoined = fmt.Errorf("%w: the broker does not belong to a cluster yet", mqerr.ErrLeaderNotAvailable)

// firstMetaReplica is the replica of the metadata on the broker that formed the
// cluster.
const firstMetaReplica = 1

// enter makes the broker part of its cluster. What needs nobody else is done
// when it returns: a lone broker serves. What needs others goes on by itself.
func (n *Node) enter(ctx context.Context) error {
	meta := n.dir.Meta()
	switch {
	case meta.ClusterID != "":
		if err := n.openMetadata(max(meta.MetaReplica, firstMetaReplica), false); err != nil {
			return err
		}
		n.loops.Go(n.meet)
	case len(n.cfg.Seeds) > 0 && !n.cfg.Bootstrap:
	default:
		if err := n.form(ctx); err != nil {
			return err
		}
	}
	n.loops.Go(n.goOn)
	if r := n.metaRep.Load(); r == nil || !r.lone() {
		return nil
	}
	return n.WaitReady(ctx)
}

// goOn joins the cluster if need be, and takes part in it as soon as the others
// let it.
func (n *Node) goOn() {
	for failures := 1; ; failures++ {
		err := n.tryOn()
		switch {
		case err == nil || n.closing.Err() != nil:
			return
		case fatal(err):
			n.fail(err)
			return
		}
		n.log.Info("waiting for the cluster", "error", err)
		if backoff.Sleep(n.closing, joinBackoff.Delay(failures)) != nil {
			return
		}
	}
}

var joinBackoff = backoff.Policy{Base: 50 * time.Millisecond, Max: time.Second}

// attempt bounds one try at what needs other brokers.
const attempt = 5 * time.Second

func (n *Node) tryOn() error {
	ctx, cancel := context.WithTimeout(n.closing, attempt)
	defer cancel()
	if n.metaRep.Load() == nil {
		if err := n.join(ctx); err != nil {
			return err
		}
	}
	err := n.takePart(ctx)
	if err != nil {
		ask, cancel := context.WithTimeout(n.closing, attempt)
		defer cancel()
		err = cmp.Or(n.removed(ask), err)
	}
	return err
}

// fatal tells what no waiting will cure.
func fatal(err error) bool {
	e := mqerr.Of(err)
	return e != nil && e.Class() == mqerr.Fatal && !errors.Is(err, mqerr.ErrClosed)
}

// form makes a cluster of this broker.
func (n *Node) form(ctx context.Context) error {
	for _, addr := range n.cfg.Seeds {
		who, _, err := callAddr[statusAnswer](ctx, n.link, addr, callStatus, &statusRequest{})
		if err == nil && who.ClusterID != "" {
			return fmt.Errorf("%w: %v belongs to cluster %s already: a new broker joins it without bootstrap", mqerr.ErrInvalidConfig, who, who.ClusterID)
		}
	}
	n.clusterID = uuid.NewString()
	if err := n.openMetadata(firstMetaReplica, true); err != nil {
		return err
	}
	if err := n.waitServing(ctx, n.metaRep.Load()); err != nil {
		return err
	}
	return n.proposeMeta(ctx, &metaCommand{FormCluster: &formCluster{ClusterID: n.clusterID, Broker: n.cfg.BrokerID}}, nil)
}

// takePart makes the broker known and, from then on, start its replicas. Before
// that its metadata has to be up to date: an old one would name replicas that are
// gone and lack those that came.
func (n *Node) takePart(ctx context.Context) error {
	if err := n.refreshMeta(ctx); err != nil {
		return err
	}
	me, known := n.record(), n.meta.state.Load().brokers[n.cfg.BrokerID]
	if me.Leaving = known.Leaving; known != me {
		cmd := &metaCommand{RegisterBroker: &me, Registered: n.dir.Meta().ClusterID != ""}
		if err := n.proposeMeta(ctx, cmd, nil); err != nil {
			return err
		}
	}
	if n.dir.Meta().ClusterID == "" {
		// From here on the directory is whole. See openStore.
		if err := n.belong(firstMetaReplica); err != nil {
			return err
		}
	}
	n.informed.Store(true)
	n.registered.Store(true)
	n.reconcile.nudge()
	n.changed.broadcast()
	return nil
}

// refreshMeta waits until the metadata here is as new as it was anywhere when the
// call began.
func (n *Node) refreshMeta(ctx context.Context) error {
	if n.metaRep.Load() == nil {
		return errNotJoined
	}
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	for failures := 1; ; failures++ {
		// Raft loses reads while there is no leader, and says nothing.
		try, cancel := context.WithTimeout(ctx, readPatience)
		_, err := n.host.SyncRead(try, metaShard, nil)
		cancel()
		if err == nil {
			return nil
		}
		if backoff.Sleep(ctx, metaBackoff.Delay(failures)) != nil {
			return fmt.Errorf("%w: metadata: %w", mqerr.ErrLeaderNotAvailable, err)
		}
	}
}

// readPatience is how long one read of the metadata by way of raft may take.
const readPatience = 500 * time.Millisecond

// record is this broker as the metadata should have it.
func (n *Node) record() brokerRecord {
	b := brokerRecord{ID: n.cfg.BrokerID, DirID: n.DirectoryID(), Addr: n.cfg.Addr, Rack: n.cfg.Rack, Feature: n.knows()}
	if n.cfg.Network != nil { // or nobody reaches it
		b.PeerAddr = n.link.Self().Addr
	}
	return b
}

// belong records that the broker is one of the cluster.
func (n *Node) belong(metaReplica uint64) error {
	if err := n.link.SetCluster(n.clusterID); err != nil {
		return err
	}
	return n.dir.SetCluster(n.clusterID, metaReplica)
}

// openMetadata starts raft and this broker's replica of the metadata.
func (n *Node) openMetadata(replicaID uint64, fresh bool) error {
	if n.host == nil {
		if err := n.openHost(); err != nil {
			return err
		}
	}
	if !fresh && n.dir.Meta().ClusterID == "" {
		// Before the replica may vote or count as a copy.
		if err := n.belong(replicaID); err != nil {
			return err
		}
	}
	id := storage.ReplicaID{Shard: metaShard, Replica: replicaID}
	// What the metadata says of itself is not known before it is open.
	me := replicaRecord{Broker: n.cfg.BrokerID, Replica: replicaID, Added: replicaID != firstMetaReplica}
	shard := shardRecord{Shard: metaShard, Replicas: []replicaRecord{me}}
	if me.Added {
		shard.Replicas = append(shard.Replicas, replicaRecord{Broker: -1, Replica: firstMetaReplica})
	}
	r, err := n.startReplica(shard, "metadata", func(*replica) application {
		n.meta.store, n.meta.id = n.store, id
		return n.meta
	})
	if err != nil {
		return err
	}
	n.metaRep.Store(r)
	return nil
}

// metaChanged is called by the metadata when it has changed, or was opened.
func (n *Node) metaChanged() {
	if r := n.replica(metaShard); r != nil {
		n.placeMeta(r)
	}
	n.changed.broadcast()
	n.reconcile.nudge()
}

// placeMeta tells the replica of the metadata what the metadata says of its shard.
func (n *Node) placeMeta(r *replica) {
	if s := n.meta.state.Load(); s.meta.replica(r.id.Replica) >= 0 {
		r.shard.Store(&s.meta)
	}
}

// notAlone looks into the raft log of the metadata for others who came after what
// the metadata holds durably: it must not lead alone then, nor be waited for.
func (n *Node) notAlone(r *replica, known bool) error {
	if !known || !r.lone() {
		return nil
	}
	log := n.rlog.Log()
	snap, err := log.GetSnapshot(r.id.Shard, r.id.Replica)
	if err != nil {
		return err
	}
	others := len(snap.Membership.Addresses) > 1
	state, err := log.ReadRaftState(r.id.Shard, r.id.Replica, snap.Index)
	if err != nil && !errors.Is(err, raftio.ErrNoSavedLog) {
		return err
	}
	for at, end := state.FirstIndex, state.FirstIndex+state.EntryCount; at < end && !others; {
		entries, _, err := log.IterateEntries(nil, 0, r.id.Shard, r.id.Replica, at, end, 1<<20)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			var cc raftpb.ConfigChange
			if e.Type == raftpb.ConfigChangeEntry && cc.Unmarshal(e.Cmd) == nil && cc.ReplicaID != r.id.Replica {
				others = true
			}
			at = e.Index + 1
		}
	}
	if others {
		r.shard.Store(&shardRecord{Shard: metaShard, Replicas: append([]replicaRecord{{Broker: -1}}, r.shard.Load().Replicas...)})
	}
	return nil
}

// joinRequest asks to be let into the cluster.
type joinRequest struct {
	Broker    brokerRecord `json:"broker"`
	Forwarded bool         `json:"forwarded,omitempty"` // by a broker that does not lead the metadata
}

// joinAnswer lets a broker in.
type joinAnswer struct {
	ClusterID   string         `json:"cluster_id"`
	MetaReplica uint64         `json:"meta_replica"`
	Brokers     []brokerRecord `json:"brokers"`
}

// join asks the seeds to be let in, one after the other.
func (n *Node) join(ctx context.Context) error {
	q := joinRequest{Broker: n.record()}
	var errs []error
	for _, addr := range n.cfg.Seeds {
		who, a, err := callAddr[joinAnswer](ctx, n.link, addr, callJoin, &q)
		if err == nil {
			n.peers.put(who.DirectoryID, who.Addr)
			return n.joined(a)
		}
		if fatal(err) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (n *Node) joined(a *joinAnswer) error {
	for _, b := range a.Brokers {
		n.peers.put(b.DirID, b.PeerAddr)
	}
	n.clusterID = a.ClusterID
	return n.openMetadata(a.MetaReplica, false)
}

// serveJoin lets a broker in, or asks the leader of the metadata to.
func (n *Node) serveJoin(ctx context.Context, q *joinRequest) (*joinAnswer, error) {
	r := n.metaRep.Load()
	if r == nil || !n.registered.Load() { // the cluster may not be for good yet
		return nil, errNotJoined
	}
	if _, err := r.epochServed(); err != nil {
		dirID, ok := n.leaderDir(r)
		if !ok || q.Forwarded || dirID == n.DirectoryID() {
			return nil, err
		}
		return call[joinAnswer](ctx, n.link, dirID, callJoin, joinRequest{Broker: q.Broker, Forwarded: true})
	}
	if err := n.proposeMeta(ctx, &metaCommand{RegisterBroker: &q.Broker}, nil); err != nil {
		return nil, err
	}
	s := n.meta.state.Load()
	mine, ok := s.meta.on(q.Broker.ID)
	if !ok {
		add := &changeReplica{Shard: metaShard, Change: addReplica, Broker: q.Broker.ID}
		if err := n.proposeMeta(ctx, &metaCommand{ChangeReplica: add}, nil); err != nil {
			return nil, err
		}
		s = n.meta.state.Load()
		if mine, ok = s.meta.on(q.Broker.ID); !ok {
			return nil, errNotJoined
		}
	}
	if rec := s.meta.Replicas[s.meta.replica(mine)]; rec.Leaving || s.brokers[q.Broker.ID].Leaving {
		return nil, fmt.Errorf("%w: broker %d is leaving", mqerr.ErrInvalidRequest, q.Broker.ID)
	}
	// Its raft group has to know it before it can be told anything.
	if err := n.settleStep(ctx, r, s.meta, s.meta.Replicas[s.meta.replica(mine)]); err != nil {
		return nil, err
	}
	a := &joinAnswer{ClusterID: s.clusterID, MetaReplica: mine}
	for _, b := range s.brokers {
		a.Brokers = append(a.Brokers, b)
	}
	return a, nil
}
