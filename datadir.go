package mq

import (
	"fmt"

	"github.com/raftmq/mq/storage"
)

// DataDirInfo is what a data directory says about itself.
type DataDirInfo struct {
	Format      int    `json:"format"`       // version of what is stored
	DirectoryID string `json:"directory_id"` // UUID, made with the directory
	ClusterID   string `json:"cluster_id"`   // empty when the broker was in none yet
	BrokerID    int32  `json:"broker_id"`
}

// InspectDataDir reads what a data directory says about itself. It takes no lock
// and writes nothing: a broker may have the directory. It looks at no record.
//
// Errors: fs.ErrNotExist for a directory that is not there or empty, from which
// OpenBroker would make one; otherwise those that OpenBroker gives for the
// directory: ErrForeignDir, ErrNewerFormat, ErrCorruptLog.
func InspectDataDir(path string) (DataDirInfo, error) {
	m, format, err := storage.ReadMeta(path, nil)
	if err != nil {
		return DataDirInfo{}, fmt.Errorf("inspect: %w", err)
	}
	return DataDirInfo{Format: format, DirectoryID: m.DirectoryID.String(), ClusterID: m.ClusterID, BrokerID: m.BrokerID}, nil
}
