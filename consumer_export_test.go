package mq

import "github.com/raftmq/mq/internal/route"

// RouterEndpoint makes an Endpoint of a Router, so that tests can put brokers
// of their own behind it.
func RouterEndpoint(r *route.Router) Endpoint { return routerEndpoint{r} }

type routerEndpoint struct{ r *route.Router }

func (e routerEndpoint) router() *route.Router { return e.r }
