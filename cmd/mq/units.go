package main

import (
	"fmt"
	"time"
)

// size tells bytes to a person.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	i, f := 0, float64(n)/1024
	for ; f >= 1024; f /= 1024 {
		i++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// round leaves three digits of a duration or so.
func round(d time.Duration) time.Duration {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
}
