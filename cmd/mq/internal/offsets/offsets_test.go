package offsets_test

import (
	"testing"
	"time"

	"github.com/raftmq/mq/cmd/mq/internal/offsets"
)

var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func TestRangesParse(t *testing.T) {
	t.Parallel()
	type (
		r = offsets.Range
		p = offsets.Point
	)
	at := func(t time.Time) p { return p{Kind: offsets.Time, Time: t} }
	may4, may5 := at(time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC)), at(time.Date(2026, 5, 5, 0, 0, 0, 0, time.UTC))
	noon := at(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))
	end := p{Kind: offsets.End}
	for s, want := range map[string]r{
		"start":                      {},
		"end":                        {From: end},
		":end":                       {To: end, HasTo: true},
		"start:end":                  {To: end, HasTo: true},
		"7":                          {From: p{Kind: offsets.Offset, N: 7}},
		"7:9":                        {From: p{Kind: offsets.Offset, N: 7}, To: p{Kind: offsets.Offset, N: 9}, HasTo: true},
		"7:+5":                       {From: p{Kind: offsets.Offset, N: 7}, To: p{Kind: offsets.Plus, N: 5}, HasTo: true},
		"+3":                         {From: p{Kind: offsets.Start, N: 3}},
		"-3":                         {From: p{Kind: offsets.End, N: 3}},
		"-3:end":                     {From: p{Kind: offsets.End, N: 3}, To: end, HasTo: true},
		":-3":                        {To: p{Kind: offsets.End, N: 3}, HasTo: true},
		"@1000":                      {From: at(time.UnixMilli(1000))},
		"@-1h":                       {From: at(now.Add(-time.Hour))},
		"@-1h:end":                   {From: at(now.Add(-time.Hour)), To: end, HasTo: true},
		"@1000:2000":                 {From: at(time.UnixMilli(1000)), To: at(time.UnixMilli(2000)), HasTo: true},
		"@2026-05-04":                {From: may4},
		"@2026-05-04T12:00:00Z":      {From: noon},
		"@2026-05-04:@2026-05-05":    {From: may4, To: may5, HasTo: true},
		"@2026-05-04:2026-05-05":     {From: may4, To: may5, HasTo: true},
		"@2026-05-04T12:00:00Z:+10":  {From: noon, To: p{Kind: offsets.Plus, N: 10}, HasTo: true},
		"@2026-05-04T12:00:00Z:@-1m": {From: noon, To: at(now.Add(-time.Minute)), HasTo: true},
	} {
		got, err := offsets.Parse(s, now)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		if got.HasTo != want.HasTo || !equal(got.From, want.From) || !equal(got.To, want.To) {
			t.Errorf("%q: got %+v, want %+v", s, got, want)
		}
	}
}

func equal(a, b offsets.Point) bool { return a.Kind == b.Kind && a.N == b.N && a.Time.Equal(b.Time) }

func TestBadRangesSayWhatIsWanted(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "begin", "1:2:3", "start:", "--1", "+", "-", "1.5", "99999999999999999999", "@", "@yesterday", "@1h", "@2026-05-04:", "start:last",
	} {
		if r, err := offsets.Parse(s, now); err == nil {
			t.Errorf("%q was taken as %+v", s, r)
		}
	}
}

func FuzzParseNeverPanics(f *testing.F) {
	for _, s := range []string{"start", "@-1h:end", "7:+5", "@2026-05-04T12:00:00Z:@1"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) { _, _ = offsets.Parse(s, now) })
}
