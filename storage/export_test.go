package storage

// Seal lets tests make files of other versions.
var Seal = seal

// AwaitReclaim waits until no pass of the reclaimer runs.
func AwaitReclaim(s *Store) { s.reclaim.passes.Wait() }
