// Package cluster replicates: every topic partition, the metadata and the groups
// are raft shards of one dragonboat NodeHost per broker, whose state machines
// write to one storage.Store. Node answers api.Broker.
//
// It is the only importer of dragonboat. The package serves the root package
// and may change.
//
// # How a command travels
//
//	Node.Produce ─ checks ─► replica.propose ─► raft log (fsync) ─► machine.Update
//	                              │                                    │ one store batch per call
//	                              ▼                                    ▼
//	                         pending table ◄──── result, by id ──── commit, then wake readers
//
// A proposal carries an id made of this process's nonce and a sequence number.
// Update finds the waiting caller by it, so no goroutine waits for each
// proposal; the sweep loop finds those that raft dropped or timed out.
//
// # Leadership
//
// A replica that becomes leader proposes BeginEpoch(term) and serves only after
// applying it. Update refuses commands of another epoch with NotLeader, and a
// replica that applies a newer epoch fails its own pending proposals as
// definitely not appended: those still in the log will be refused.
//
// # Groups
//
// A group lives in the shard of its slot, whose leader is its coordinator. What
// becomes of a group is computed by internal/group, from what was applied, and
// proposed as a command that names the revision it replaces; groupStore applies
// it and checks commits.
//
// # Several brokers
//
// enter and join make a broker part of a cluster; the metadata says which replicas
// are where; membership moves raft groups there, plan decides on moves, leadership
// spreads, hands over and replaces leaders.
package cluster
