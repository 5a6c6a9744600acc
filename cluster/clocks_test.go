package cluster

import (
	"testing"
	"time"
)

func TestTheTimeIsWhatAMajorityOfBrokersHas(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		offsets []time.Duration // the first is one's own
		brokers int
		want    time.Duration
		ok      bool
	}{
		"alone":               {[]time.Duration{0}, 1, 0, true},
		"all agree":           {[]time.Duration{0, 59 * time.Second, -time.Second}, 3, 0, true},
		"one is wrong":        {[]time.Duration{0, time.Hour, time.Second}, 3, 0, true},
		"this one is wrong":   {[]time.Duration{0, time.Hour, time.Hour + time.Second}, 3, time.Hour, true},
		"nobody agrees":       {[]time.Duration{0, time.Hour, -time.Hour}, 3, 0, false},
		"one of two is wrong": {[]time.Duration{0, time.Hour}, 2, 0, false},
		"one of two is away":  {[]time.Duration{0}, 2, 0, false},
		"one of three is":     {[]time.Duration{0, time.Second}, 3, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := commonTime(c.offsets, c.brokers); got != c.want || ok != c.ok {
				t.Errorf("got %v, %v", got, ok)
			}
		})
	}
}
