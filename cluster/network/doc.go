// Package network connects the brokers of a cluster. A Link is a broker's place
// on a Network and carries both planes: raft (messages and snapshot chunks) and
// calls from broker to broker.
//
// Brokers are named by their directory ids, which never change. Where they are
// is asked of Config.Resolve before each attempt to connect, and every handshake
// tells the other side's address to Handlers.Admit.
//
// # Layers
//
//	Call, CallAddr     Raft (config.TransportFactory)
//	        \           /            \
//	       calls     messages      chunks       one connection per class and
//	          \         |            /          direction; for messages one per
//	           frames, queues, keep-alive       peer and shard%4
//	                    |
//	            handshake, Faults
//	                    |
//	          Network: Mem or TCP (TLS)
//
// Only the lowest layer differs between brokers in one process and brokers on
// several machines. So the tests of one are tests of the other, and fault rules
// work on both.
//
// # Connections
//
// A broker that has something to send dials: its requests, raft messages and
// chunks go one way, answers the other. Each class has connections of its own,
// so that neither a snapshot nor a large call delays a heartbeat; snapshots are
// also held to a rate. Connections are made when they are needed. While the
// next attempt has to wait (a second at most; not at all once the peer itself
// connects), raft messages are dropped and calls fail at once.
//
// Every queue is bounded. Where one is full, raft messages are dropped, calls
// fail with mqerr.ErrBusy and snapshot chunks wait.
//
// A connection on which nothing was heard for some time, or whose peer takes
// nothing, is given up. Nothing else has a deadline: a large frame on a slow
// line is no failure as long as it moves.
//
// # What is known about a call
//
// A call that was never written to a connection fails with
// mqerr.ErrLeaderNotAvailable. One that was, and got no answer, fails with
// mqerr.ErrTimeout: it may have happened. Calls are never repeated here.
package network
