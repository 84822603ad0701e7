package fence_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/draasd/draas/fence"
)

// Somebody else meddles: it is seen, and restored.
func backstopDisturbed(t *testing.T, w wire) {
	p := freePort()
	listenEcho(t, w.v4+port(p))
	k := w.kernel(t, w.backstop(t), fence.KernelConfig{Ports: []uint16{p}})
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	pin := func(name string) string { return filepath.Join(w.pins, name) }
	linkPin := pin("link_" + strings.ReplaceAll(w.name, ".", "%2E"))
	for _, mode := range []string{"xdp", "xdpgeneric", "xdpdrv"} {
		_ = exec.Command("ip", "link", "set", "dev", w.name, mode, "off").Run() // refused where it would have an effect
	}
	if s, err := k.State(t.Context()); s != fence.Closed || !strings.Contains(run(t, "ip", "link", "show", w.name), "xdp") {
		t.Errorf("ip may take the program off: %s, %v", s, err)
	}
	for name, vandal := range map[string]func() error{
		"link detached": func() error {
			l, err := link.LoadPinnedLink(linkPin, nil)
			if err != nil {
				return err
			}
			return errors.Join(l.(interface{ Detach() error }).Detach(), l.Close())
		},
		"link unpinned": func() error { return os.Remove(linkPin) },
		"map unpinned":  func() error { return os.Remove(pin("deadlines")) },
		"all unpinned": func() error {
			return errors.Join(os.Remove(pin("rules")), os.Remove(pin("slots")), os.Remove(pin("deadlines")), os.Remove(linkPin))
		},
		"unmounted": func() error { return unix.Unmount(w.pins, unix.MNT_DETACH) },
		"rule deleted": func() error {
			return meddle(pin("rules"), func(m *ebpf.Map, key []byte) error { return m.Delete(key) })
		},
		"deadline raised": func() error {
			return meddle(pin("deadlines"), func(m *ebpf.Map, key []byte) error { return m.Put(key, uint64(1)<<62) })
		},
		"interface anew": func() error { run(t, "ip", "link", "del", w.name); w.plug(t); return nil },
	} {
		if s, err := k.State(t.Context()); s != fence.Closed {
			t.Fatalf("before %s: %s, %v", name, s, err)
		}
		if err := vandal(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s, err := k.State(t.Context()); s != fence.Unknown || err == nil {
			t.Errorf("%s: state %s, %v", name, s, err)
		}
		if err := k.Close(t.Context()); err != nil {
			t.Errorf("%s: not restored: %v", name, err)
		}
		if s, err := k.State(t.Context()); s != fence.Closed {
			t.Errorf("%s, restored: state %s, %v", name, s, err)
		}
		run(t, "nft", "flush", "ruleset")
		if w.reach(p)(t.Context()) == nil {
			t.Errorf("%s: the backstop is not restored", name)
		}
		if err := k.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func meddle(pin string, with func(m *ebpf.Map, key []byte) error) error {
	m, err := ebpf.LoadPinnedMap(pin, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	var keys [][]byte
	var key, value []byte
	for all := m.Iterate(); all.Next(&key, &value); {
		keys = append(keys, bytes.Clone(key))
	}
	for _, key := range keys {
		if err := with(m, key); err != nil {
			return err
		}
	}
	return nil
}

// An interface that is not there: nothing is opened. One that goes while users
// are served does not cut off the rest, but is told.
func backstopNoInterface(t *testing.T, w wire) {
	p := freePort()
	listenEcho(t, siteIP+port(p))
	k := newKernel(t, fence.KernelConfig{Ports: []uint16{p}, Backstop: w.backstop(t), XDP: []string{w.name, "absent0"}})
	if err := k.Close(t.Context()); !errors.Is(err, fence.ErrNoInterface) {
		t.Errorf("close: %v", err)
	}
	if s, err := k.State(t.Context()); s == fence.Closed || !errors.Is(err, fence.ErrNoInterface) {
		t.Errorf("state %s, %v", s, err)
	}
	if err := k.Open(t.Context(), forLong(fence.SystemClock{})); !errors.Is(err, fence.ErrNoInterface) {
		t.Errorf("open: %v", err)
	}
	reach := askFresh(dialFrom(w.users, "tcp", siteIP+port(p)))
	if reach(t.Context()) == nil {
		t.Error("opened without its backstop")
	}
	run(t, "ip", "link", "add", "absent0", "type", "veth", "peer", "name", "absent1")
	if err := errors.Join(k.Close(t.Context()), k.Open(t.Context(), forLong(fence.SystemClock{}))); err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "link", "del", "absent0")
	if err := k.Extend(t.Context(), forLong(fence.SystemClock{})); err != nil || reach(t.Context()) != nil {
		t.Errorf("cut off when an interface went: %v", err)
	}
	if s, err := k.State(t.Context()); s != fence.Unknown || !errors.Is(err, fence.ErrNoInterface) {
		t.Errorf("state %s, %v", s, err)
	}
	bad := newKernel(t, fence.KernelConfig{Ports: []uint16{p}, Backstop: w.backstop(t), XDP: []string{"lo"}})
	if err := bad.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "not an Ethernet interface") {
		t.Errorf("loopback: %v", err)
	}
}

func backstopAnothersProgram(t *testing.T, w wire) {
	first := w.kernel(t, w.backstop(t), fence.KernelConfig{Ports: []uint16{freePort()}})
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.pins = filepath.Join(shortDir(t), "bpf")
	defer func() { _ = unix.Unmount(w.pins, 0) }()
	second := w.kernel(t, w.backstop(t), fence.KernelConfig{Ports: []uint16{freePort()}})
	if err := second.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "another XDP program") {
		t.Errorf("close: %v", err)
	}
	if s, err := second.State(t.Context()); s == fence.Closed {
		t.Errorf("state %s, %v", s, err)
	}
	if err := second.Remove(); err != nil {
		t.Error(err)
	}
}
