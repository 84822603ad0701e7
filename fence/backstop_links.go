package fence

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// backstopLinks are the attachments of the program to interfaces, each pinned
// as a bpf_link: nobody replaces or detaches one by accident (`ip link set dev
// X xdp off` is refused).
type backstopLinks struct {
	dir     string
	program *ebpf.Program
	log     *slog.Logger
	links   map[string]attachedLink
}

type attachedLink struct {
	link.Link
	index int
}

func loadBackstopProgram(m *backstopMaps) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(backstopProgram(m.rules, m.deadlines))
	if err != nil {
		return nil, fmt.Errorf("load program: %w", err)
	}
	return p, nil
}

func (l *backstopLinks) close() error {
	var errs []error
	for name, a := range l.links {
		errs = append(errs, a.Close())
		delete(l.links, name)
	}
	if l.program != nil {
		errs = append(errs, l.program.Close())
		l.program = nil
	}
	return errors.Join(errs...)
}

// pin is the path of an interface's link: names in a BPF file system have no
// dots, those of interfaces may.
func (l *backstopLinks) pin(name string) string {
	return filepath.Join(l.dir, "link_"+strings.NewReplacer("%", "%25", ".", "%2E").Replace(name))
}

// look reports whether the program stands at the interface.
func (l *backstopLinks) look(name string) error {
	index, err := interfaceIndex(name)
	if err != nil {
		return err
	}
	a, known := l.links[name]
	switch {
	case !known:
		return errors.New("not attached")
	case indexOf(a) != index:
		return errors.New("somebody detached it, or the interface is another")
	case !exists(l.pin(name)):
		return errors.New("somebody unpinned it: it would end with the guard")
	}
	return nil
}

// attach puts the program on the interface. A program of ours that a guard
// before left there is replaced with no packet in between.
func (l *backstopLinks) attach(name string) error {
	if l.look(name) == nil {
		return nil
	}
	index, err := interfaceIndex(name)
	if err != nil {
		return err
	}
	a, known := l.links[name]
	delete(l.links, name)
	if !known {
		if left, err := link.LoadPinnedLink(l.pin(name), nil); err == nil {
			a = attachedLink{left, index}
			known = true
		}
	}
	if known {
		if indexOf(a) == index {
			// Unpinned first, since the library takes its own word for it that
			// the link is pinned.
			if err = a.Update(l.program); err == nil && !exists(l.pin(name)) {
				err = errors.Join(a.Unpin(), a.Pin(l.pin(name)))
			}
			if err == nil {
				l.links[name] = attachedLink{a.Link, index}
				return nil
			}
		}
		if err := errors.Join(a.Unpin(), a.Close()); err != nil {
			return fmt.Errorf("let go of the old link: %w", err)
		}
	}
	if err := os.Remove(l.pin(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what is no link: %w", err)
	}
	fresh, err := l.attachNew(name, index)
	if err != nil {
		return err
	}
	if err := fresh.Pin(l.pin(name)); err != nil {
		return errors.Join(fmt.Errorf("pin link: %w", err), fresh.Close())
	}
	l.links[name] = attachedLink{fresh, index}
	return nil
}

func (l *backstopLinks) attachNew(name string, index int) (link.Link, error) {
	ifi, err := net.InterfaceByIndex(index)
	if err != nil {
		return nil, fmt.Errorf("look at interface: %w", err)
	}
	if len(ifi.HardwareAddr) != 6 || ifi.Flags&net.FlagLoopback != 0 {
		return nil, errors.New("it is not an Ethernet interface")
	}
	opts := link.XDPOptions{Program: l.program, Interface: index}
	if !exists("/sys/class/net/" + name + "/device") {
		// In their drivers virtual interfaces send our answers back only where
		// the other end is prepared for it.
		opts.Flags = link.XDPGenericMode
	}
	fresh, err := link.AttachXDP(opts)
	if err == nil {
		l.log.Info("backstop attached", "interface", name, "generic", opts.Flags != 0)
		return fresh, nil
	}
	if opts.Flags != 0 || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
			err = fmt.Errorf("another XDP program is there: %w", err)
		}
		return nil, err
	}
	// The driver has no room for it (an MTU too large, too few queues).
	opts.Flags = link.XDPGenericMode
	fresh, gerr := link.AttachXDP(opts)
	if gerr != nil {
		return nil, errors.Join(err, gerr)
	}
	l.log.Warn("backstop attached in generic mode, which is slower", "interface", name, "err", err)
	return fresh, nil
}

func (l *backstopLinks) detach(name string) error {
	a, known := l.links[name]
	if !known {
		return nil
	}
	delete(l.links, name)
	return errors.Join(a.Unpin(), a.Close())
}

// detachAll also takes away what a guard before left.
func (l *backstopLinks) detachAll() error {
	var errs []error
	for name := range l.links {
		errs = append(errs, l.detach(name))
	}
	left, err := filepath.Glob(filepath.Join(l.dir, "link_*"))
	errs = append(errs, err)
	for _, path := range left {
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(errs...)
}

// indexOf is the interface that the link is at; 0 when it is detached.
func indexOf(l link.Link) int {
	info, err := l.Info()
	if err != nil || info.XDP() == nil {
		return 0
	}
	return int(info.XDP().Ifindex)
}

// interfaceIndex asks the kernel for one interface only: a machine may have
// thousands.
func interfaceIndex(name string) (int, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, fmt.Errorf("%w: %q", ErrNoInterface, name)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); errors.Is(err, unix.ENODEV) {
		return 0, fmt.Errorf("%w: %q", ErrNoInterface, name)
	} else if err != nil {
		return 0, fmt.Errorf("look for interface %q: %w", name, err)
	}
	return int(ifr.Uint32()), nil
}

// mountBPF makes sure that the directory is on a BPF file system.
func mountBPF(dir string) error {
	if there, err := isBPF(dir); there || err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory for pinned objects: %w", err)
	}
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mount a BPF file system at %s (docs/fence.md, xdp): %w", dir, err)
	}
	return nil
}

func isBPF(dir string) (bool, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", dir, err)
	}
	return uint32(st.Type) == unix.BPF_FS_MAGIC, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
