// Package lint holds no code: its tests are the repository's rules that a
// compiler does not know. Who may import whom, which versions must not move,
// what files and identifiers must not be called.
package lint
