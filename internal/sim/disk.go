package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"

	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
)

// errKilled is what a disk says to a daemon that is dead already.
var errKilled = errors.New("the daemon was killed here")

// disk is a member's disk. It can kill the daemon before any operation, which
// is after the one before: between a write and its sync, for one.
type disk struct {
	*quorumtest.Disk
	left     int // operations until the daemon is killed; negative: none
	killed   bool
	readOnly bool
	sick     bool // a sync has failed, or will
	room     int  // bytes that fit while the disk is full; negative: it is not
}

func newDisk() *disk { return &disk{Disk: quorumtest.NewDisk(), left: -1, room: -1} }

// crash is the machine's or the daemon's end: what was not synced may be lost.
func (d *disk) crash(rnd *rand.Rand) {
	d.Disk, d.left, d.killed, d.sick = d.Disk.Crash(rnd), -1, false, false
	if d.room >= 0 {
		d.Limit(int64(d.room))
	}
}

// fill lets only so many bytes be written from now on; negative: no bound.
func (d *disk) fill(n int) {
	d.room = n
	d.Limit(int64(n))
}

// op is asked before each operation that changes something.
func (d *disk) op() error {
	switch {
	case d.left == 0:
		d.killed, d.left = true, -1
	case d.left > 0:
		d.left--
	}
	switch {
	case d.killed:
		return errKilled
	case d.readOnly:
		return fmt.Errorf("write: %w", syscall.EROFS)
	}
	return nil
}

// Create implements quorum.Disk.
func (d *disk) Create(name string) (quorum.File, error) {
	if err := d.op(); err != nil {
		return nil, err
	}
	f, err := d.Disk.Create(name)
	if err != nil {
		return nil, err
	}
	return &file{f, d}, nil
}

// Rename implements quorum.Disk.
func (d *disk) Rename(from, to string) error {
	if err := d.op(); err != nil {
		return err
	}
	return d.Disk.Rename(from, to)
}

// Remove implements quorum.Disk.
func (d *disk) Remove(name string) error {
	if err := d.op(); err != nil {
		return err
	}
	return d.Disk.Remove(name)
}

// SyncDir implements quorum.Disk.
func (d *disk) SyncDir() error {
	if err := d.op(); err != nil {
		return err
	}
	return d.Disk.SyncDir()
}

type file struct {
	quorum.File
	disk *disk
}

// Write implements quorum.File.
func (f *file) Write(p []byte) (int, error) {
	if err := f.disk.op(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

// Sync implements quorum.File.
func (f *file) Sync() error {
	if err := f.disk.op(); err != nil {
		return err
	}
	return f.File.Sync()
}

// faulty reports whether the disk explains that a daemon ends.
func (d *disk) faulty() bool { return d.killed || d.readOnly || d.room >= 0 || d.sick }

// heal makes the disk as good as it looks.
func (d *disk) heal() {
	d.left, d.killed, d.readOnly, d.sick = -1, false, false, false
	d.fill(-1)
	d.BreakSync(nil)
}
