// Package nearest finds what somebody meant who mistyped a name.
package nearest

import "strings"

// Of returns the candidate that is most like name, or "" when none is like it:
// with few different letters, or with a part in common. Case, dashes,
// underscores and dots do not count.
func Of(name string, candidates []string) string {
	plain := squeeze(name)
	if plain == "" {
		return ""
	}
	best, least := "", max(1, min(3, len(plain)/3))+1
	for _, c := range candidates {
		if d := distance(plain, squeeze(c), least); d < least {
			best, least = c, d
		}
	}
	if best != "" {
		return best
	}
	for _, c := range candidates {
		if s := squeeze(c); len(plain) >= 3 && strings.Contains(s, plain) || len(s) >= 3 && strings.Contains(plain, s) {
			return c
		}
	}
	return ""
}

// Hint is Of as the end of a message: "; did you mean this?", or nothing.
func Hint(name string, candidates []string) string {
	if near := Of(name, candidates); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

var separators = strings.NewReplacer("-", "", "_", "", ".", "")

func squeeze(s string) string { return separators.Replace(strings.ToLower(s)) }

// distance is how many letters have to be put in, taken out, changed, or
// swapped with the next to make b of a. Above limit it may be any such number.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	// Three rows of the table: the last but one, the last, and this.
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			changed := last[j-1]
			if a[i-1] != b[j-1] {
				changed++
			}
			row[j] = min(last[j]+1, row[j-1]+1, changed)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
