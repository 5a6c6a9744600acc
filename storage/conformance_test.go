package storage_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/raftmq/mq/storage"
	"github.com/raftmq/mq/storage/storagetest"
)

func TestStoreInMemory(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(*testing.T) (storage.FS, string) { return storage.NewMemFS(), "store" })
}

func TestStoreOnDisk(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) (storage.FS, string) { return vfs.Default, t.TempDir() })
}
