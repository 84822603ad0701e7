// Package quorumtest holds what tests and the simulator put in place of disks,
// networks and chance.
package quorumtest

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"

	"github.com/draasd/draas/quorum"
)

// Disk is a quorum.Disk in memory that can crash, fill up and break. It keeps
// apart what has been made durable from what a crash may take.
type Disk struct {
	mu    sync.Mutex
	names map[string]*content // as the running process sees them
	// durable names, and what has happened to names since the last SyncDir.
	durable map[string]*content
	pending []rename

	left     int64 // bytes that still fit; negative: no bound
	syncErr  error
	writes   int
	failedAt int
}

// content is a file's bytes, which outlive its name.
type content struct {
	data   []byte
	synced int // bytes that a crash leaves
	broken bool
}

// rename is one change of a name; an empty from creates, an empty to removes.
type rename struct {
	from, to string
	file     *content
}

// NewDisk returns an empty disk without bound.
func NewDisk() *Disk {
	return &Disk{names: map[string]*content{}, durable: map[string]*content{}, left: -1}
}

// Limit lets only so many more bytes be written, then writes fail with ENOSPC,
// the last one in the middle. A negative n takes the bound away.
func (d *Disk) Limit(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = n
}

// BreakSync makes the next Sync of a file fail with err and, as Linux does,
// forget that the pages were dirty: later Syncs succeed without writing them.
func (d *Disk) BreakSync(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncErr = err
}

// Failures is how many operations have failed by Limit or BreakSync.
func (d *Disk) Failures() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failedAt
}

// Writes is how many writes there were.
func (d *Disk) Writes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

// Crash returns the disk as the next start may find it: what was durable, and
// of the rest what chance left: some of the changes of names, in order; of each
// file's unsynced end a beginning, perhaps with sectors that were never
// written. The old disk is not changed. Bounds are taken away.
func (d *Disk) Crash(rnd *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := NewDisk()
	names := maps.Clone(d.durable)
	for _, r := range d.pending[:rnd.IntN(len(d.pending)+1)] {
		r.do(names)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		file := names[name]
		keep := file.synced + rnd.IntN(len(file.data)-file.synced+1)
		data := slices.Clone(file.data[:keep])
		if rnd.IntN(2) == 0 {
			loseSectors(data, file.synced, rnd)
		}
		c := &content{data: data, synced: len(data)}
		after.names[name], after.durable[name] = c, c
	}
	return after
}

func loseSectors(data []byte, from int, rnd *rand.Rand) {
	const sector = 512
	for from < len(data) {
		end := min((from/sector+1)*sector, len(data))
		if rnd.IntN(3) == 0 {
			clear(data[from:end])
		}
		from = end
	}
}

// Clone returns a copy of the disk as a process sees it, all durable.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := NewDisk()
	for name, file := range d.names {
		c := &content{data: slices.Clone(file.data), synced: len(file.data)}
		after.names[name], after.durable[name] = c, c
	}
	return after
}

// Set replaces a file's bytes, durably: damage done behind everybody's back.
func (d *Disk) Set(name string, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &content{data: slices.Clone(data), synced: len(data)}
	d.names[name], d.durable[name] = c, c
}

func (r rename) do(names map[string]*content) {
	if r.from != "" {
		delete(names, r.from)
	}
	if r.to != "" {
		names[r.to] = r.file
	}
}

func (d *Disk) change(r rename) {
	r.do(d.names)
	d.pending = append(d.pending, r)
}

// List implements quorum.Disk.
func (d *Disk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.names)), nil
}

// ReadFile implements quorum.Disk.
func (d *Disk) ReadFile(name string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	file, ok := d.names[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Clone(file.data), nil
}

// Create implements quorum.Disk.
func (d *Disk) Create(name string) (quorum.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	file := &content{}
	d.change(rename{to: name, file: file})
	return &memFile{disk: d, content: file}, nil
}

// Rename implements quorum.Disk.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	file, ok := d.names[from]
	if !ok {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	d.change(rename{from: from, to: to, file: file})
	return nil
}

// Remove implements quorum.Disk.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.names[name]; !ok {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	d.change(rename{from: name})
	return nil
}

// SyncDir implements quorum.Disk.
func (d *Disk) SyncDir() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.durable = maps.Clone(d.names)
	d.pending = nil
	return nil
}

type memFile struct {
	disk    *Disk
	content *content
	closed  bool
}

// Write implements quorum.File.
func (f *memFile) Write(p []byte) (int, error) {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.closed {
		return 0, fs.ErrClosed
	}
	d.writes++
	n := len(p)
	if d.left >= 0 {
		n = int(min(int64(n), d.left))
		d.left -= int64(n)
	}
	f.content.data = append(f.content.data, p[:n]...)
	if n < len(p) {
		d.failedAt++
		return n, fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	return n, nil
}

// Sync implements quorum.File.
func (f *memFile) Sync() error {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	if err := d.syncErr; err != nil {
		d.syncErr = nil
		d.failedAt++
		f.content.broken = true
		return err
	}
	if !f.content.broken {
		f.content.synced = len(f.content.data)
	}
	return nil
}

// Close implements quorum.File.
func (f *memFile) Close() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	return nil
}
