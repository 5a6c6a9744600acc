// Package progress says in one line how far work on records has come.
package progress

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Sample is how far it has come at a time.
type Sample struct {
	At             time.Time
	Records, Bytes int64
	Part           float64 // of the whole, 0 to 1; 0 if that is not known
}

// window is how far back the rate looks.
const window = 5 * time.Second

// A Meter turns samples into lines. The rate it tells is that of the last
// seconds. The zero value is ready.
type Meter struct{ samples []Sample } // of the window, oldest first

// Add takes the newest sample.
func (m *Meter) Add(s Sample) {
	old := 0
	for old+1 < len(m.samples) && s.At.Sub(m.samples[old+1].At) >= window {
		old++
	}
	m.samples = append(m.samples[old:], s)
}

// Line returns the line, without what does not fit into so many columns.
func (m *Meter) Line(columns int) string {
	if len(m.samples) == 0 {
		return ""
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	parts := []string{Records(last.Records)}
	seconds := last.At.Sub(first.At).Seconds()
	if seconds > 0 {
		parts = append(parts, Count(int64(float64(last.Records-first.Records)/seconds))+"/s")
	}
	if last.Part > 0 {
		parts = append(parts, fmt.Sprintf("%.0f%%", 100*last.Part))
		if done := last.Part - first.Part; done > 0 {
			left := time.Duration(seconds * (1 - last.Part) / done * float64(time.Second))
			parts = append(parts, "ETA "+left.Round(time.Second).String())
		}
	}
	parts = append(parts, Bytes(last.Bytes))
	for ; len(parts) > 0; parts = parts[:len(parts)-1] {
		if line := strings.Join(parts, "  "); len(line) <= columns {
			return line
		}
	}
	return ""
}

// Records writes a number of records for people: 1 record, 1,234 records.
func Records(n int64) string {
	if n == 1 {
		return "1 record"
	}
	return Count(n) + " records"
}

// Count writes a number for people: 1,234,567.
func Count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Bytes writes a size for people: 12.3 MB.
func Bytes(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	size, unit := float64(n)/1000, 0
	for ; size >= 999.95 && unit < 4; unit++ {
		size /= 1000
	}
	return fmt.Sprintf("%.1f %cB", size, "kMGTP"[unit])
}
