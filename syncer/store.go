package syncer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// storeFormat is the version of what stands in the file.
const storeFormat = 1

// lockWait is for how long Open waits for another process to let go.
const lockWait = 2 * time.Second

var (
	bucketMeta    = []byte("meta")
	bucketRecords = []byte("records") // kind, id: the record
	bucketWithin  = []byte("within")  // kind, holder, id: nothing
	bucketStatus  = []byte("status")  // kind: how far it is
	bucketReserve = []byte("reserve")
	keyMeta       = []byte("meta")
)

// ErrStoreBusy: another process has the store open.
var ErrStoreBusy = errors.New("another process has it open")

// Meta is what the store says of itself.
type Meta struct {
	Format int    `json:"format"`
	Source string `json:"source"` // sites
	Target string `json:"target"`
	// Epoch is that in which the source became the active site.
	Epoch uint64 `json:"epoch"`
	// Whole: a run has ended. Until then, what bears a marker and stands in no
	// record is taken into the records, for the store was lost.
	Whole bool `json:"whole"`
	// Ran is when the last run began, by our clock.
	Ran time.Time `json:"ran,omitzero"`
}

// Store keeps the records in one file, each write durable when it returns. Its
// methods may be called at the same time; writes that come together are synced
// together.
type Store struct {
	db   *bolt.DB
	path string
}

// OpenStore opens the file, or makes it. [ErrStoreBusy] when another process
// has not let go of it within two seconds.
func OpenStore(path string) (*Store, error) { return openStore(path, 0) }

// openStore with a bound of the file's size, in bytes; 0: none.
func openStore(path string, limit int) (*Store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait, MaxSize: limit, FreelistType: bolt.FreelistMapType, NoStatistics: true})
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = ErrStoreBusy
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	// Workers come in groups: what is asked for within this time is one sync.
	db.MaxBatchDelay = time.Millisecond
	db.AllocSize = 1 << 20
	s := &Store{db: db, path: path}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), db.Close())
	}
	return s, nil
}

func (s *Store) prepare() error {
	meta, err := s.Meta()
	switch {
	case err != nil:
		return err
	case meta.Format == storeFormat:
		return nil
	case meta.Format > storeFormat:
		return fmt.Errorf("it has format %d, of a later version: %d is known here", meta.Format, storeFormat)
	}
	return s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketRecords, bucketWithin, bucketStatus} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return putJSON(tx.Bucket(bucketMeta), keyMeta, Meta{Format: storeFormat})
	})
}

// Close ends the use of the file.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close store %s: %w", s.path, err)
	}
	return nil
}

// Meta is what the store says of itself.
func (s *Store) Meta() (Meta, error) {
	var m Meta
	err := s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketMeta)
		if b == nil {
			return nil
		}
		return getJSON(b, keyMeta, &m)
	})
	return m, s.wrap("read", err)
}

// SetMeta replaces it.
func (s *Store) SetMeta(m Meta) error {
	m.Format = storeFormat
	return s.wrap("write", s.db.Batch(func(tx *bolt.Tx) error { return putJSON(tx.Bucket(bucketMeta), keyMeta, m) }))
}

func (s *Store) wrap(verb string, err error) error {
	if err != nil {
		return fmt.Errorf("%s store %s: %w", verb, s.path, err)
	}
	return nil
}

// Record is what the store has of an object of the source; false: nothing.
func (s *Store) Record(k Key) (Record, bool, error) {
	var r Record
	found := false
	err := s.db.View(func(tx *bolt.Tx) error {
		raw := tx.Bucket(bucketRecords).Get(recordKey(k))
		if raw == nil {
			return nil
		}
		found = true
		return decodeRecord(raw, &r)
	})
	return r, found, s.wrap("read", err)
}

// Put writes records, all or none of them.
func (s *Store) Put(records ...Record) error { return s.Write(records, nil) }

// Write puts records and removes others, all or nothing.
func (s *Store) Write(put []Record, remove []Key) error {
	raw := make([][]byte, len(put))
	for i, r := range put {
		var err error
		if raw[i], err = encodeRecord(r); err != nil {
			return s.wrap("write", err)
		}
	}
	if len(put)+len(remove) == 0 {
		return nil
	}
	return s.wrap("write", s.db.Batch(func(tx *bolt.Tx) error {
		for _, k := range remove {
			if err := removeRecord(tx, k); err != nil {
				return err
			}
		}
		for i, r := range put {
			if err := putRecord(tx, r, raw[i]); err != nil {
				return err
			}
		}
		return nil
	}))
}

func putRecord(tx *bolt.Tx, r Record, raw []byte) error {
	records, key := tx.Bucket(bucketRecords), recordKey(r.Key)
	if r.Within != (Key{}) {
		if err := unlink(tx, r.Key, r.Within.ID); err != nil {
			return err
		}
		if err := tx.Bucket(bucketWithin).Put(withinKey(r.Key.Kind, r.Within.ID, r.Key.ID), nil); err != nil {
			return err
		}
	}
	return records.Put(key, raw)
}

// unlink takes a record out of the holder that it had; but for one.
func unlink(tx *bolt.Tx, k Key, but string) error {
	raw := tx.Bucket(bucketRecords).Get(recordKey(k))
	if raw == nil {
		return nil
	}
	var old Record
	if err := decodeRecord(raw, &old); err != nil {
		return err
	}
	if old.Within == (Key{}) || old.Within.ID == but {
		return nil
	}
	return tx.Bucket(bucketWithin).Delete(withinKey(k.Kind, old.Within.ID, k.ID))
}

func removeRecord(tx *bolt.Tx, k Key) error {
	// No holder has this name: no key has three parts of which one is a NUL.
	if err := unlink(tx, k, "\x00"); err != nil {
		return err
	}
	return tx.Bucket(bucketRecords).Delete(recordKey(k))
}

// Each gives the records of a kind, in the order of their ids.
func (s *Store) Each(kind Kind, each func(Record) error) error {
	return s.wrap("read", s.db.View(func(tx *bolt.Tx) error {
		prefix := kindPrefix(kind)
		c := tx.Bucket(bucketRecords).Cursor()
		for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			var r Record
			if err := decodeRecord(v, &r); err != nil {
				return err
			}
			if err := each(r); err != nil {
				return err
			}
		}
		return nil
	}))
}

// EachWithin gives the records of a kind that one object of the source holds,
// in the order of their ids.
func (s *Store) EachWithin(kind Kind, holder string, each func(Record) error) error {
	return s.EachBetween(kind, holder, "", "", each)
}

// EachBetween is EachWithin of the ids behind after, up to and with to; empty:
// all on that side.
func (s *Store) EachBetween(kind Kind, holder, after, to string, each func(Record) error) error {
	return s.wrap("read", s.db.View(func(tx *bolt.Tx) error {
		prefix := withinKey(kind, holder, "")
		first, last := withinKey(kind, holder, after), withinKey(kind, holder, to)
		records, c := tx.Bucket(bucketRecords), tx.Bucket(bucketWithin).Cursor()
		for k, _ := c.Seek(first); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Next() {
			if to != "" && bytes.Compare(k, last) > 0 {
				return nil
			}
			if after != "" && bytes.Equal(k, first) {
				continue
			}
			raw := records.Get(append(kindPrefix(kind), k[len(prefix):]...))
			if raw == nil {
				return fmt.Errorf("%s is held by %s, and has no record", k[len(prefix):], holder)
			}
			var r Record
			if err := decodeRecord(raw, &r); err != nil {
				return err
			}
			if err := each(r); err != nil {
				return err
			}
		}
		return nil
	}))
}

// Holders are the ids at the source of what holds records of a kind.
func (s *Store) Holders(kind Kind) ([]string, error) {
	var holders []string
	err := s.db.View(func(tx *bolt.Tx) error {
		prefix := kindPrefix(kind)
		c := tx.Bucket(bucketWithin).Cursor()
		k, _ := c.Seek(prefix)
		for k != nil && bytes.HasPrefix(k, prefix) {
			name, _, _ := bytes.Cut(k[len(prefix):], []byte{0})
			holders = append(holders, unescape(string(name)))
			next := append(append(kindPrefix(kind), name...), 1) // behind all that it holds
			k, _ = c.Seek(next)
		}
		return nil
	})
	return holders, s.wrap("read", err)
}

// Kinds are those that have records.
func (s *Store) Kinds() ([]Kind, error) {
	var kinds []Kind
	err := s.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketRecords).Cursor()
		k, _ := c.First()
		for k != nil {
			name, _, _ := bytes.Cut(k, []byte{0})
			kinds = append(kinds, Kind(unescape(string(name))))
			k, _ = c.Seek(append(bytes.Clone(name), 1))
		}
		return nil
	})
	return kinds, s.wrap("read", err)
}

// Reserve makes sure that so many bytes can still be written, and gives them
// back to the file: a full disk is to be met before the first effect, not
// between an effect and its record.
func (s *Store) Reserve(size int) error {
	const piece = 64 << 10
	err := s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketReserve)
		if err != nil {
			return err
		}
		blank := make([]byte, piece)
		for i := 0; i*piece < size; i++ {
			if err := b.Put(fmt.Appendf(nil, "%08d", i), blank); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = s.db.Update(func(tx *bolt.Tx) error { return tx.DeleteBucket(bucketReserve) })
	}
	return s.wrap("write", err)
}

// SetStatus writes how far kinds are, and forgets that of others.
func (s *Store) SetStatus(all []KindStatus, forget []Kind) error {
	return s.wrap("write", s.db.Batch(func(tx *bolt.Tx) error {
		for _, k := range forget {
			if err := tx.Bucket(bucketStatus).Delete([]byte(escape(string(k)))); err != nil {
				return err
			}
		}
		for _, k := range all {
			if err := putJSON(tx.Bucket(bucketStatus), []byte(escape(string(k.Kind))), k); err != nil {
				return err
			}
		}
		return nil
	}))
}

// Status is how far all kinds are, as the last runs have left it.
func (s *Store) Status() (Status, error) {
	st := Status{}
	err := s.db.View(func(tx *bolt.Tx) error {
		if err := getJSON(tx.Bucket(bucketMeta), keyMeta, &st.Meta); err != nil {
			return err
		}
		return tx.Bucket(bucketStatus).ForEach(func(_, v []byte) error {
			var k KindStatus
			if err := json.Unmarshal(v, &k); err != nil {
				return err
			}
			st.Kinds = append(st.Kinds, k)
			return nil
		})
	})
	return st, s.wrap("read", err)
}

func putJSON(b *bolt.Bucket, key []byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put(key, raw)
}

func getJSON(b *bolt.Bucket, key []byte, v any) error {
	raw := b.Get(key)
	if raw == nil {
		return nil
	}
	return json.Unmarshal(raw, v)
}

// The parts of a key are parted by a NUL, which is escaped in them in a way that
// keeps their order.
var (
	escaper   = strings.NewReplacer("\x00", "\x01\x01", "\x01", "\x01\x02")
	unescaper = strings.NewReplacer("\x01\x01", "\x00", "\x01\x02", "\x01")
)

func escape(s string) string   { return escaper.Replace(s) }
func unescape(s string) string { return unescaper.Replace(s) }

func kindPrefix(kind Kind) []byte { return append([]byte(escape(string(kind))), 0) }

func recordKey(k Key) []byte { return append(kindPrefix(k.Kind), escape(k.ID)...) }

func withinKey(kind Kind, holder, id string) []byte {
	b := append(kindPrefix(kind), escape(holder)...)
	return append(append(b, 0), escape(id)...)
}
