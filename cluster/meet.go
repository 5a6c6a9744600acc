package cluster

import (
	"context"
	"sync"

	"github.com/raftmq/mq/internal/backoff"
)

// meet makes a broker that comes back and its seeds tell each other where they
// and the others are, until it takes part. What its metadata says may be old: all
// addresses may have changed since.
func (n *Node) meet() {
	for failures := 1; !n.registered.Load(); failures++ {
		n.greetSeeds()
		if backoff.Sleep(n.closing, joinBackoff.Delay(failures)) != nil {
			return
		}
	}
	n.peers.forgetHeard() // metadata knows better
}

func (n *Node) greetSeeds() {
	ctx, cancel := context.WithTimeout(n.closing, attempt)
	defer cancel()
	var all sync.WaitGroup
	for _, addr := range n.cfg.Seeds {
		all.Go(func() {
			// The handshake tells this broker's own address, see admit.
			who, a, err := callAddr[meetAnswer](ctx, n.link, addr, callMeet, &meetRequest{})
			n.peers.put(who.DirectoryID, who.Addr)
			if err == nil {
				n.peers.hear(a.Addrs)
			}
		})
	}
	all.Wait()
}

// meetRequest asks a broker where the others are.
type meetRequest struct{}

// meetAnswer is where a broker would look for the others, by directory id.
type meetAnswer struct {
	Addrs map[string]string `json:"addrs"`
}

func (n *Node) serveMeet(context.Context, *meetRequest) (*meetAnswer, error) {
	a := &meetAnswer{Addrs: make(map[string]string)}
	for _, b := range n.meta.state.Load().brokers {
		if addr, err := n.resolve(b.DirID); err == nil {
			a.Addrs[b.DirID] = addr
		}
	}
	return a, nil
}
