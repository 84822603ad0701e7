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
// of the new one.
func replace(path string, what []byte) (err error) {
	// keepalived watches the directory for this one name.
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(what)
	// It is no secret; keepalived may read it as somebody else.
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
