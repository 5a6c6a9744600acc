//go:build !linux

package raftlog

import "github.com/lni/vfs"

// datasync brings the content of f to stable storage.
func datasync(f vfs.File) error { return f.Sync() }

// reserve does nothing: the file gets its blocks from being written.
func reserve(vfs.File, int64) error { return nil }
