package quorum

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Disk is the file system of one directory, as little of it as the log needs.
// OSDisk is the real one; quorumtest.Disk is one in memory that can crash.
//
// What a File's Sync and SyncDir have not covered may be lost in a crash: the
// end of a file, and creations, renames and removals.
type Disk interface {
	// List returns the names of the regular files, sorted.
	List() ([]string, error)
	// ReadFile returns a whole file; errors.Is(err, fs.ErrNotExist) if there
	// is none.
	ReadFile(name string) ([]byte, error)
	// Create makes an empty file, or empties the one that is there, for
	// appending.
	Create(name string) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes creations, renames and removals durable.
	SyncDir() error
}

// File is open for appending.
type File interface {
	io.Writer
	// Sync makes what was written durable. After it has failed once nothing is
	// known about the file any more and it must not be tried again: Linux marks
	// the pages clean and the next call succeeds without writing them.
	Sync() error
	Close() error
}

// ErrLocked is returned when another process uses the data directory.
var ErrLocked = errors.New("data directory is in use")

const lockName = "lock"

// OSDisk is a directory of the operating system, locked for this process.
type OSDisk struct {
	dir  string
	lock *os.File
}

// OpenOSDisk locks an existing directory. The lock goes with the process, also
// when it is killed. A directory that another process has locked gives
// ErrLocked; one that does not exist, fs.ErrNotExist.
func OpenOSDisk(dir string) (*OSDisk, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open data directory: %s is not a directory", dir)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		owner := make([]byte, 32)
		n, _ := f.ReadAt(owner, 0)
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		who := "another process"
		if pid := strings.TrimSpace(string(owner[:n])); pid != "" {
			who = "process " + pid
		}
		return nil, fmt.Errorf("%w: %s by %s: two daemons cannot share it; stop that one first, or give this one its own directory", ErrLocked, dir, who)
	}
	if err := errors.Join(f.Truncate(0), writeAll(f, fmt.Appendf(nil, "%d\n", os.Getpid()))); err != nil {
		f.Close()
		return nil, fmt.Errorf("write lock: %w", err)
	}
	return &OSDisk{dir: dir, lock: f}, nil
}

// Close gives the directory free. The lock is taken off by itself: a program
// that is just being started may hold a copy of the file until it runs.
func (d *OSDisk) Close() error {
	err := unix.Flock(int(d.lock.Fd()), unix.LOCK_UN)
	if err = errors.Join(err, d.lock.Close()); err != nil {
		return fmt.Errorf("close lock: %w", err)
	}
	return nil
}

// List implements Disk.
func (d *OSDisk) List() ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("list data directory: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != lockName {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// ReadFile implements Disk.
func (d *OSDisk) ReadFile(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(d.dir, name))
}

// Create implements Disk.
func (d *OSDisk) Create(name string) (File, error) {
	f, err := os.OpenFile(filepath.Join(d.dir, name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Rename implements Disk.
func (d *OSDisk) Rename(from, to string) error {
	return os.Rename(filepath.Join(d.dir, from), filepath.Join(d.dir, to))
}

// Remove implements Disk.
func (d *OSDisk) Remove(name string) error { return os.Remove(filepath.Join(d.dir, name)) }

// SyncDir implements Disk.
func (d *OSDisk) SyncDir() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	return errors.Join(err, f.Close())
}

type osFile struct{ *os.File }

// Sync uses fdatasync(2), which flushes the data and the size, and spares the
// journal the modification time.
func (f osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

const tmpSuffix = ".tmp"

// createDurable writes a whole file so that after a crash it is there
// completely or not at all, and leaves it open for appending. Nothing may be
// appended before it has returned.
func createDurable(d Disk, name string, data []byte) (File, error) {
	f, err := d.Create(name + tmpSuffix)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	if err := writeAll(f, data); err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return nil, fmt.Errorf("sync %s: %w", name, err)
	}
	if err := d.Rename(name+tmpSuffix, name); err != nil {
		f.Close()
		return nil, fmt.Errorf("rename %s: %w", name, err)
	}
	if err := d.SyncDir(); err != nil {
		f.Close()
		return nil, fmt.Errorf("sync directory of %s: %w", name, err)
	}
	return f, nil
}

func writeDurable(d Disk, name string, data []byte) error {
	f, err := createDurable(d, name, data)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", name, err)
	}
	return nil
}

func writeAll(w io.Writer, data []byte) error {
	n, err := w.Write(data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	return err
}

// removeIfThere removes a file that a crash may have left or taken.
func removeIfThere(d Disk, name string) error {
	if err := d.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
