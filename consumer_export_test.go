package mq

import "github.com/raftmq/mq/internal/route"

// HoldHeartbeats makes the member that a consumer is send no more heartbeats
// until release.
func HoldHeartbeats(c *Consumer) (release func()) {
	c.member.gate.Lock()
	return c.member.gate.Unlock
}

// RouterEndpoint makes an Endpoint of a Router, so that tests can put brokers
// of their own behind it.
func RouterEndpoint(r *route.Router) Endpoint { return routerEndpoint{r} }

type routerEndpoint struct{ r *route.Router }

func (e routerEndpoint) router() *route.Router { return e.r }
