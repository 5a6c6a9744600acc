package network_test

import (
	"testing"

	"github.com/raftmq/mq/cluster/network"
)

// deaf is a broker that greets and then reads nothing. It lives until the test
// ends.
func deaf(tb testing.TB, w *world) {
	tb.Helper()
	l, err := w.net.Listen(tb.Context(), w.listen)
	if err != nil {
		tb.Fatal(err)
	}
	w.lives("deaf", l.Addr().String())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			tb.Cleanup(func() { nc.Close() })
			if err := network.AcceptHello(nc, network.Identity{ClusterID: clusterID, DirectoryID: "deaf"}); err != nil {
				tb.Error(err)
			}
		}
	}()
	tb.Cleanup(func() {
		l.Close()
		<-done
	})
}
