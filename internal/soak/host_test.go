package soak

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab"
)

// fakeDaemon stands in for draasd: it appends to its log for as long as it can,
// and refuses a log that does not begin as it began. Told to close the fences, it
// notes how the link is.
const fakeDaemon = `#!/bin/sh
if [ "$1 $2" = "guard --close" ]; then
	ip -br link show eth0 >"$(dirname "$4")/closed"
	exit
fi
if [ "$1" = join ]; then
	cd "$(dirname "$3")/data" || exit 1
	if [ "$4" = --discard ]; then [ -e log-0000000000000001 ] || exit 1; else [ ! -e log-0000000000000001 ] || exit 1; fi
	[ "$4" ] && echo begin >log-0000000000000001
	exit
fi
{
cd "$(dirname "$3")/data" || exit 1
[ -e log-0000000000000001 ] || { echo data directory is not bootstrapped: draasd join; exit 1; }
head -c 5 log-0000000000000001 | grep -qx begin || { echo log-0000000000000001 is damaged; exit 1; }
while env printf %0512d 0 >>log-0000000000000001; do sleep 0.02; done
exit 1
} 2>&1 | tr A-Z a-z
exit 1
`

func testHost(t *testing.T, name string, ended func(excused bool, said string)) *host {
	t.Helper()
	needRoot(t)
	work := t.TempDir()
	for path, data := range map[string]string{"draasd": fakeDaemon, "data/log-0000000000000001": "begin\n"} {
		path = filepath.Join(work, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(data), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(work, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	h, err := newHost(name, work, filepath.Join(work, "draasd"), testRouter(t), work,
		func(h *host, p *lab.Process, err error, said string) { ended(h.excused(p, err, said), said) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// Each fault of a disk does to a process what it is to do, is an excuse for as
// long as it lasts, and is taken back.
func TestDiskFaults(t *testing.T) {
	t.Parallel()
	ends := make(chan string, 100)
	h := testHost(t, witness, func(excused bool, said string) {
		if !excused {
			t.Errorf("it ended without an excuse: %s", said)
		}
		ends <- said
	})
	keep(t, h.daemon)
	size := func() int64 {
		info, err := os.Stat(h.Path(filepath.Join(h.data(), "log-0000000000000001")))
		if err != nil {
			return -1
		}
		return info.Size()
	}
	writes := func() bool {
		before := size()
		pause(context.Background(), 60*time.Millisecond)
		return before >= 0 && size() > before
	}
	until(t, "it writes", writes)
	for words, fault := range map[string]func(context.Context, time.Duration) error{"no space left": h.fillDisk, "read-only|input/output error": h.freezeDisk} {
		drain(ends)
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error, 1)
		go func() { over <- fault(ctx, time.Minute) }()
		until(t, "the daemon says "+words, func() bool {
			said := drain(ends)
			return slices.ContainsFunc(strings.Split(words, "|"), func(w string) bool { return strings.Contains(said, w) })
		})
		cancel() // the fault is over
		if err := <-over; err != nil {
			t.Fatal(err)
		}
		until(t, "it writes again", writes)
	}
	if !h.excused(h.daemon, nil, "no space left on device") || h.excused(h.daemon, nil, "segmentation fault") {
		t.Error("just after a fault its own words are an excuse, and no others")
	}
}

// A damaged log has to be refused, and is put back.
func TestCorruptLog(t *testing.T) {
	t.Parallel()
	h := testHost(t, witness, func(_ bool, said string) { t.Errorf("it ended by itself: %s", said) })
	keep(t, h.daemon)
	// The stand-in looks at the first bytes only: damage there is refused, and
	// damage behind them is not.
	file, good := h.Path(filepath.Join(h.data(), "log-0000000000000001")), []byte("begin\nxxxxxxxxxx")
	for _, seen := range []bool{true, false} {
		h.daemon.Hold(syscall.SIGKILL, time.Minute)
		if err := os.WriteFile(file, good, 0o600); err != nil {
			t.Fatal(err)
		}
		f, patience := Fault{For: time.Millisecond}, 300*time.Millisecond
		for _, at := damage(good, f); at < 5 != seen; _, at = damage(good, f) {
			f.At++
		}
		if seen {
			patience = refusePatience
		}
		err := h.corruptLog(context.Background(), f, patience)
		if seen != (err == nil) || !seen && !strings.Contains(err.Error(), "was to refuse") {
			t.Errorf("damage that is seen (%v) comes to %v", seen, err)
		}
		if data, err := os.ReadFile(file); err != nil || string(data) != "begin\n" {
			t.Errorf("the member did not join anew: %q, %v", data, err)
		}
		h.daemon.Release()
	}
}

// Without its disk a member does not start; it joins, if need be by the
// cluster's id.
func TestLoseDisk(t *testing.T) {
	t.Parallel()
	h := testHost(t, witness, func(_ bool, said string) { t.Errorf("it ended by itself: %s", said) })
	keep(t, h.daemon)
	_, before, _ := h.daemon.Present()
	if err := h.loseDisk(context.Background(), time.Millisecond, "c0ffee"); err != nil {
		t.Fatal(err)
	}
	until(t, "it runs again", func() bool { pid, run, _ := h.daemon.Present(); return pid != 0 && run > before })
}

// Who was asked to leave may end so, and not otherwise.
func TestLeaveIsAnExcuse(t *testing.T) {
	h := &host{daemon: &lab.Process{}, guard: &lab.Process{}}
	err := exec.Command("sh", "-c", "exit 3").Run()
	if h.excused(h.daemon, err, "") {
		t.Error("nobody asked it to leave")
	}
	h.expectLeave()
	if !h.excused(h.daemon, err, "") || h.excused(h.daemon, exec.Command("false").Run(), "") || h.excused(h.guard, err, "") {
		t.Error("it was asked to leave")
	}
}

// Who starts between the two files of a rotation may end, and for that reason.
func TestRotationIsAnExcuse(t *testing.T) {
	h := &host{daemon: &lab.Process{}, guard: &lab.Process{}}
	const said = "load own certificate: tls: private key does not match public key"
	if h.excused(h.daemon, nil, said) {
		t.Error("nothing was rotated")
	}
	h.rotated()
	if !h.excused(h.daemon, nil, said) || !h.excused(h.guard, nil, said) || h.excused(h.daemon, nil, "no such file") {
		t.Error("its certificate was just exchanged")
	}
}

// Who is off has no link and no process, and comes back as another boot.
func TestPower(t *testing.T) {
	t.Parallel()
	h := testHost(t, dr, func(_ bool, said string) { t.Errorf("it ended by itself: %s", said) })
	keep(t, h.daemon)
	boot := func() string {
		out, err := h.Run("/", "cat", "/proc/sys/kernel/random/boot_id")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	link := func() bool {
		out, err := h.router.Run("/", "ip", "-br", "link", "show", dr)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(out, "UP")
	}
	runs := func() bool { pid, _, _ := h.daemon.Present(); return pid != 0 }
	until(t, "it runs", runs)
	first := boot()
	if err := errors.Join(h.powerOff(), h.powerOff()); err != nil {
		t.Fatal(err)
	}
	if runs() || link() || len(first) != 37 || boot() == first {
		t.Errorf("off: runs %v, link %v, boot %q then %q", runs(), link(), first, boot())
	}
	closed := filepath.Join(h.dir, "closed")
	if err := h.powerOn(); err != nil || link() || runs() {
		t.Errorf("on though another fault holds it off: %v", err)
	}
	if _, err := os.Stat(closed); err == nil {
		t.Error("it booted though another fault holds it off")
	}
	if err := h.powerOn(); err != nil || !link() {
		t.Errorf("on, without a link: %v", err)
	}
	if was, err := os.ReadFile(closed); err != nil || !strings.Contains(string(was), " DOWN ") {
		t.Errorf("the fences were not closed before the link was up: %q, %v", was, err)
	}
	until(t, "it runs again", runs)
	if out, err := h.router.Run("/", "ip", "route", "get", memberAddress(dr)); err != nil || !strings.Contains(out, "dev dr") {
		t.Errorf("the route did not come back: %q, %v", out, err)
	}
}

// drain is all that was said so far.
func drain(said <-chan string) (all string) {
	for {
		select {
		case s := <-said:
			all += s
		default:
			return all
		}
	}
}
