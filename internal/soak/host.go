package soak

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/draasd/draas/demo"
	"github.com/draasd/draas/internal/lab"
)

// host is a member's machine: its disk, its processes and its link.
type host struct {
	*lab.Machine
	dir    string // of failover.toml
	draasd string
	router *lab.Machine

	daemon   *lab.Process
	guard    *lab.Process            // nil at the witness
	services map[string]*lab.Process // none at the witness

	disk  sync.Mutex // held by the fault of the disk that there is
	power sync.Mutex // held while the machine is switched on or off
	off   int        // how many faults hold it off
	mu    sync.Mutex
	sick  int       // how many keep the disk from working
	well  time.Time // when the last of them ended
	left  bool      // it was asked to leave the cluster
	torn  time.Time // when its key and its certificate were last put into place, one after the other
}

// furnishDisk gives the member's data a small disk of its own, the machine a
// boot id that is its own to change, and a place for pinned BPF objects that
// goes with the machine. The disk has no journal: nothing here takes the power
// away, and with an error it becomes read-only for good.
const furnishDisk = `
mkdir /mnt/data
cp -a "$1"/. /mnt/data
truncate -s 32M /mnt/disk
mkfs.ext4 -q -b 1024 -m 0 -O ^has_journal /mnt/disk
mount -o loop,errors=remount-ro /mnt/disk "$1"
cp -a /mnt/data/. "$1"
sync -f "$1"
mount -t bpf bpf /sys/fs/bpf
touch /mnt/boot_id
mount --bind /mnt/boot_id /proc/sys/kernel/random/boot_id
`

func newHost(name, dir, draasd string, router *lab.Machine, logs string, ended func(*host, *lab.Process, error, string)) (*host, error) {
	m, err := lab.New(name)
	if err != nil {
		return nil, err
	}
	h := &host{Machine: m, dir: dir, draasd: draasd, router: router, services: make(map[string]*lab.Process)}
	if err := h.furnish(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	add := func(what string, argv ...string) *lab.Process {
		full := name + "-" + what
		return lab.NewProcess(full, filepath.Join(logs, full+".log"),
			func() *exec.Cmd { return m.Command("/", append([]string{draasd}, argv...)...) },
			func(p *lab.Process, err error, said string) { ended(h, p, err, said) })
	}
	file := filepath.Join(dir, "failover.toml")
	h.daemon = add("daemon", "run", "-c", file)
	if name == witness {
		return h, nil
	}
	h.guard = add("guard", "guard", "-c", file)
	for _, s := range services {
		listen := fmt.Sprintf("%s:%d", serviceAddress(s, name), portOf[s])
		if s == byPath {
			listen = backend
		}
		h.services[s] = add(s, demo.ServeCommand, "--listen", listen, "--control", h.socket("draasd.sock"), "--service", s, "--site", name)
	}
	return h, nil
}

func (h *host) furnish() error {
	if _, err := h.Run("/", "sh", "-euc", furnishDisk, "sh", h.data()); err != nil {
		return fmt.Errorf("furnish %s: %w", h.Name, err)
	}
	if err := plug(h.Machine, h.router, addressesOf(h.Name)); err != nil {
		return err
	}
	return h.newBoot()
}

func (h *host) data() string              { return filepath.Join(h.dir, "data") }
func (h *host) tls() string               { return filepath.Join(h.dir, "tls") }
func (h *host) socket(name string) string { return filepath.Join(h.dir, "run", name) }

// newBoot draws a boot id, as a kernel does at its start.
func (h *host) newBoot() error {
	var b [16]byte
	rand.Read(b[:]) // never fails
	id := fmt.Sprintf("%x-%x-%x-%x-%x\n", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	if err := os.WriteFile(h.Path("/mnt/boot_id"), []byte(id), 0o644); err != nil {
		return fmt.Errorf("write boot id of %s: %w", h.Name, err)
	}
	return nil
}

// processes are all of the machine, the guard first: its fences are to be
// closed before anything serves.
func (h *host) processes() []*lab.Process {
	var all []*lab.Process
	if h.guard != nil {
		all = append(all, h.guard)
	}
	for _, s := range services {
		if p := h.services[s]; p != nil {
			all = append(all, p)
		}
	}
	return append(all, h.daemon)
}

// hangUp tells who has read the member's file to read it again.
func (h *host) hangUp() {
	h.daemon.HangUp()
	if h.guard != nil {
		h.guard.HangUp()
	}
}

// close removes the disk. The processes have ended.
func (h *host) close() error {
	return errors.Join(h.unmount(), h.Close())
}

// unmountPatience is how long children that were killed with their process may
// take to be gone.
const unmountPatience = 5 * time.Second

func (h *host) unmount() error {
	return await(context.Background(), unmountPatience, func(context.Context) error {
		_, err := h.Run("/", "umount", h.data())
		return err
	})
}

// powerOff kills everything at once and forgets what a machine forgets.
func (h *host) powerOff() error {
	h.power.Lock()
	defer h.power.Unlock()
	h.off++
	first := h.off == 1
	var errs []error
	if first {
		_, err := h.router.Run("/", "ip", "link", "set", h.Name, "down")
		errs = append(errs, err)
	}
	var all sync.WaitGroup
	for _, p := range h.processes() {
		all.Go(func() { p.Hold(syscall.SIGKILL, time.Minute) })
	}
	all.Wait()
	if first {
		_, err := h.Run("/", "sh", "-euc", `nft flush ruleset; umount -R /sys/fs/bpf; mount -t bpf bpf /sys/fs/bpf; umount -R "$1"/bpf 2>/dev/null || true; rm -rf "$1"/*`,
			"sh", filepath.Join(h.dir, "run"))
		errs = append(errs, err, h.newBoot())
	}
	return errors.Join(errs...)
}

// powerOn boots the machine. As the units are ordered the fences that the
// kernel holds are closed before the network is up (draas-fence-boot.service);
// services wait for nothing else, nor for a guard that another fault has struck.
func (h *host) powerOn() error {
	h.power.Lock()
	defer h.power.Unlock()
	h.off--
	var errs []error
	if h.off == 0 {
		if h.guard != nil {
			_, err := h.Run("/", h.draasd, "guard", "--close", "-c", filepath.Join(h.dir, "failover.toml"))
			errs = append(errs, err)
		}
		errs = append(errs, linkUp(h.router, h.Name, addressesOf(h.Name)))
	}
	for _, p := range h.processes() {
		p.Release()
	}
	return errors.Join(errs...)
}

// sicken notes that the disk does not work, until the function is called.
func (h *host) sicken() (cure func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sick++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.sick--
		h.well = time.Now()
	}
}

// afterSickness is how long after a disk works again a daemon may still end
// because it did not.
const afterSickness = 2 * time.Second

// diskWords are what a daemon says of a disk that does not work.
var diskWords = []string{"no space left on device", "read-only file system", "input/output error"}

// exitLeft is the exit status of a daemon that has left the cluster.
const exitLeft = 3

func (h *host) expectLeave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = true
}

// afterRotation is how long after another certificate a process may have met
// the new key beside the old certificate as it started, and wordsOfRotation
// what it says then.
const (
	afterRotation   = 2 * time.Second
	wordsOfRotation = "private key does not match public key"
)

func (h *host) rotated() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.torn = time.Now()
}

// excused reports whether the process had to end: it started between the two
// files of a rotation; the daemon was asked to leave the cluster; or its disk
// did not work, without which it must not go on, and it said why.
func (h *host) excused(p *lab.Process, err error, said string) bool {
	h.mu.Lock()
	sick, left, torn := h.sick > 0 || time.Since(h.well) < afterSickness, h.left, time.Since(h.torn) < afterRotation
	h.mu.Unlock()
	var exit *exec.ExitError
	switch {
	case torn && strings.Contains(said, wordsOfRotation):
		return true
	case p != h.daemon:
		return false
	case left && errors.As(err, &exit) && exit.ExitCode() == exitLeft:
		return true
	case !sick:
		return false
	}
	for _, w := range diskWords {
		if strings.Contains(said, w) {
			return true
		}
	}
	return false
}
