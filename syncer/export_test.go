package syncer

import bolt "go.etcd.io/bbolt"

// OpenStoreLimited opens a store that cannot grow beyond so many bytes.
var OpenStoreLimited = openStore

// SetFormat makes a store look as if another version had made it.
func SetFormat(s *Store, format int) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		return putJSON(tx.Bucket(bucketMeta), keyMeta, Meta{Format: format})
	})
}
