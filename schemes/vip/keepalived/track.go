package keepalived

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// What the file says. A missing file is read as 0.
var (
	held    = []byte("1\n")
	notHeld = []byte("0\n")
)

// TrackFile tells keepalived whether this frontend has the lease.
type TrackFile struct {
	path string
}

// OpenTrackFile begins with a frontend that has no lease, whatever an earlier run
// left in the file. The directory has to be there.
func OpenTrackFile(path string) (*TrackFile, error) {
	f := &TrackFile{path: path}
	if err := f.Set(false); err != nil {
		return nil, err
	}
	return f, nil
}

// Set says whether this frontend has the lease. It reads first and writes only
// what is not there, so that it may be called at every renewal: then what others
// did to the file is put right. keepalived is told by the renaming; nothing is
// flushed to a disk, since a host that crashed has no addresses either.
func (f *TrackFile) Set(lease bool) error {
	want := notHeld
	if lease {
		want = held
	}
	if is, err := os.ReadFile(f.path); err == nil && bytes.Equal(is, want) {
		return nil
	}
	if err := replace(f.path, want); err != nil {
		return fmt.Errorf("write track file: %w", err)
	}
	return nil
}

// Close says that this frontend has no lease. The file stays.
func (f *TrackFile) Close() error { return f.Set(false) }

// replace writes a file so that whoever reads it reads all of the old one or all
// of the new one. keepalived watches the directory for this one name.
func replace(path string, what []byte) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	// It is no secret; keepalived may read it as somebody else.
	if err := os.WriteFile(tmp, what, 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}
