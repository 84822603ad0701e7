package lan

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab"
	"github.com/draasd/draas/schemes/vip/keepalived"
)

// follower is a frontend whose addresses a real keepalived sets.
type follower struct {
	*remote
	dir    string
	daemon *exec.Cmd
}

// follower starts both in a machine. The check fails when there is a file "dead":
// when keepalived looks is the test's choice.
func (w *world) follower(m *lab.Machine, router int, friends []Station, addrs ...string) *follower {
	w.t.Helper()
	f := &follower{dir: w.t.TempDir()}
	track := filepath.Join(f.dir, "shop")
	f.remote = w.start(m, nil)
	if got := f.do(order{Do: "open", Name: m.Name, Friends: friends, Addrs: addresses(addrs...), Track: track}); got.Err != "" {
		w.t.Fatal(got.Err)
	}
	// keepalived trusts no script in a directory that others may write to.
	here := fmt.Sprintf("/run/lab%d", router)
	w.in(m, fmt.Sprintf("mkdir -p %s && mount --bind %s %s", here, f.dir, here))
	w.t.Cleanup(func() { w.in(m, "umount "+here) })
	cfg := keepalived.Config{Name: "shop", Router: router, Track: here + "/shop", Check: []string{here + "/check"}, User: "root"}
	for _, a := range addresses(addrs...) {
		cfg.Addresses = append(cfg.Addresses, keepalived.Address(a))
	}
	snippet, err := keepalived.Snippet(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(f.dir, "keepalived.conf"), []byte("global_defs {\n    enable_script_security\n}\n"+snippet), 0o600),
		os.WriteFile(filepath.Join(f.dir, "check"), []byte("#!/bin/sh\n[ ! -e "+here+"/dead ]\n"), 0o755),
	); err != nil {
		w.t.Fatal(err)
	}
	f.daemon = m.Command("/", "keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp", "--no-syslog", "--use-file", here+"/keepalived.conf",
		"--pid", here+"/pid", "--vrrp_pid", here+"/vrrp.pid")
	log, err := os.Create(filepath.Join(f.dir, "log"))
	if err != nil {
		w.t.Fatal(err)
	}
	f.daemon.Stdout, f.daemon.Stderr = log, log
	if err := f.daemon.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		// It would take a second to say goodbye. What it set goes with the test.
		_, _ = shell(m, fmt.Sprintf("kill -KILL $(cat %[1]s/vrrp.pid %[1]s/pid)", here)) // it may have been killed
		_ = f.daemon.Wait()                                                              // likewise
		if said, err := os.ReadFile(log.Name()); err != nil || w.t.Failed() {
			w.t.Logf("keepalived of %s: %v: %s", m.Name, err, said)
		}
		_ = log.Close() // nothing more comes
	})
	// The check has succeeded, and the file is read.
	eventually(w.t, "keepalived runs", func() bool {
		said, err := os.ReadFile(log.Name())
		return err == nil && strings.Contains(string(said), "VRRP_Script(draas_shop) succeeded")
	})
	return f
}

func (f *follower) must(o order) {
	f.t.Helper()
	if got := f.do(o); got.Err != "" {
		f.t.Fatal(got.Err)
	}
}

// served waits until a server is the one that answers at all the addresses.
func (w *world) served(by string, addrs ...string) time.Duration {
	w.t.Helper()
	start := time.Now()
	for _, a := range addrs {
		eventually(w.t, by+" answers at "+a, func() bool {
			said, err := visit(w.user, a, 20*time.Millisecond)
			return err == nil && said == by
		})
	}
	return time.Since(start)
}

// Real keepaliveds follow a lease that moves; their own protocol has no say.
func TestKeepalivedFollows(t *testing.T) {
	w := borrow(t)
	third := w.third(t)
	a := w.follower(w.second, 51, nil, vip4, vip6)
	b := w.follower(third, 52, nil, vip4, vip6)
	for _, f := range []*follower{a, b, a} {
		by, other := "second", b
		if f == b {
			by, other = "third", a
		}
		other.must(order{Do: "drop"})
		f.must(order{Do: "take", For: 20 * time.Second})
		t.Logf("answered by %s after %v", by, w.served(by, vip4, vip6))
	}
}

// A frontend that is killed leaves its keepalived as it was, master and with the
// addresses: nothing is heard of them when the lease is over, and the next one
// does not wait for the check. And a keepalived that is killed leaves the
// addresses where they are.
func TestKeepalivedOrItsFrontendDies(t *testing.T) {
	for _, who := range []string{"frontend", "keepalived"} {
		t.Run(who, func(t *testing.T) {
			w := borrow(t)
			serve(t, "first")
			a := w.follower(w.second, 51, nil, vip4, vip6)
			// The other frontend sets its addresses itself.
			h := w.open([]Station{{Name: "second", MAC: mustMAC(secondMAC)}}, vip4, vip6)
			const lease = 600 * time.Millisecond
			start := now().Boot
			a.must(order{Do: "take", For: lease})
			w.served("second", vip4, vip6)
			if who == "frontend" {
				if err := a.signal("KILL"); err != nil {
					t.Fatal(err)
				}
			} else {
				w.in(w.second, "kill -KILL $(cat /run/lab51/vrrp.pid /run/lab51/pid)")
				a.must(order{Do: "drop"})
			}
			if who == "frontend" {
				eventually(t, "the lease is over", func() bool { return now().Boot > start+lease })
			}
			if list := w.in(w.second, "ip -br address show dev lan0"); !strings.Contains(list, "10.7.0.100/32") || !strings.Contains(list, "fd07::100/128") {
				t.Errorf("the addresses are not there any more: %s", list)
			}
			take(t, h, 20*time.Second)
			t.Logf("answered by the next after %v", w.served("first", vip4, vip6))
			for _, addr := range []string{vip4, vip6} {
				w.in(w.user, fmt.Sprintf("ip neigh replace %s lladdr %s nud permanent dev lan0", netip.MustParsePrefix(addr).Addr(), secondMAC))
				if said, err := visit(w.user, addr, 100*time.Millisecond); err == nil {
					t.Errorf("the one before still answers at %s: %q", addr, said)
				}
				w.in(w.user, fmt.Sprintf("ip neigh del %s dev lan0", netip.MustParsePrefix(addr).Addr()))
			}
			if who == "frontend" {
				if err := os.WriteFile(filepath.Join(a.dir, "dead"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				eventually(t, "keepalived has found that the frontend is dead", func() bool {
					return !strings.Contains(w.in(w.second, "ip -br address show dev lan0"), ".100/")
				})
			}
		})
	}
}
