//go:build !unix

package main

import "io"

// columns can't tell here how wide the terminal is that w writes to; 0 if it is none.
func columns(w io.Writer) int {
	if r, ok := w.(io.Reader); ok && isTerminal(r) {
		return 80
	}
	return 0
}
