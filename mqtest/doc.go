// Package mqtest runs brokers inside a test: one, or a cluster of several, in
// memory and without a socket, whose brokers can be killed, cut off and restarted.
// It is for tests of programs that use package mq as much as for those of mq.
//
//	func TestOrders(t *testing.T) {
//		b := mqtest.NewBroker(t, mqtest.Topics(3, "orders"))
//		producer, err := mq.NewProducer(b, mq.ProducerConfig{Topic: "orders"})
//		...
//
// NewBroker and NewCluster return when all is ready, and the test's cleanup closes
// everything. Tests may be parallel: clusters share nothing. What brokers have to
// say goes to the test's output when the test has failed, see Log.
//
// A Cluster's brokers are on disks in memory that know what was synced:
//
//   - Kill is the death of a process, as by kill -9: what was written is there for
//     the next run. PowerCut is the loss of the machine's power: what was not synced
//     is there by chance. Restart opens them again.
//   - Partition and Isolate pull cables, of clients too; Heal plugs them in.
//   - Pause makes a broker stand still, and Resume go on.
//
// A Checker sends numbered records, remembers what became of each, and at the end
// reads everything back: it reports what was acknowledged and is lost, what is there
// twice or out of order, and brokers whose copies differ.
//
// A function that can't do what it is asked ends the test, so call them on the
// test's own goroutine.
package mqtest
