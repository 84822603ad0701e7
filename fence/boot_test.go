package fence_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
)

// Between boot and the guard's start: closed by the kernel alone, rules and
// backstop; the guard takes over, closed, and only a permit opens.
func TestClosedAtBoot(t *testing.T) {
	inNamespaces(t, func(t *testing.T, users string) {
		w := newWire(t, users)
		p := freePort()
		listenEcho(t, w.v4+port(p))
		socket := filepath.Join(shortDir(t), "guard.sock")
		specs := []fence.Spec{
			{Service: "boot", Kind: draas.FenceKernel, Ports: []uint16{p}, XDP: []string{w.name, "late0"}}, // late0 comes up later
			{Service: "unit", Kind: draas.FenceSystemd, Unit: "x.service", Systemctl: "/nonexistent"},      // a guard's affair
		}
		entries := func(b *fence.Backstop) (all []fence.Entry) {
			for _, s := range specs {
				all = append(all, must[fence.Entry](t)(s.Entry(fence.Host{Backstop: b})))
			}
			return all
		}
		reach := w.reach(p)
		w.open(t, "before", w.v4, p)
		boot := fence.NewBackstop(w.pins, nil)
		if err := errors.Join(fence.CloseAll(t.Context(), socket, entries(boot), discard), boot.Close()); err != nil {
			t.Fatal(err)
		}
		if reach(t.Context()) == nil {
			t.Fatal("not closed")
		}
		run(t, "nft", "flush", "ruleset") // as a firewall does that is started later
		if reach(t.Context()) == nil {
			t.Fatal("not closed by the backstop")
		}
		run(t, "ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1")
		specs = specs[:1]
		all := entries(w.backstop(t))
		t.Cleanup(func() {
			if err := all[0].Fence.(*fence.Kernel).Remove(); err != nil {
				t.Error(err)
			}
		})
		g := must[*fence.Guard](t)(fence.NewGuard(fence.GuardConfig{Socket: socket, Services: all}))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		<-g.Ready()
		if err := fence.CloseAll(t.Context(), socket, all, discard); !errors.Is(err, fence.ErrGuardRunning) {
			t.Errorf("beside the guard: %v", err)
		}
		if out := run(t, "nft", "list", "ruleset"); !strings.Contains(out, "draas_boot") || reach(t.Context()) == nil {
			t.Errorf("the guard is ready, and not all is closed:\n%s", out)
		}
		client := fence.Dial(socket)
		defer client.Close()
		if _, err := client.Extend(t.Context(), "boot", 1, draas.DeadlineAt(fence.SystemClock{}.Now(), fence.MaxAhead/2)); err != nil {
			t.Fatal(err)
		}
		w.open(t, "with a permit", w.v4, p)
	})
}

// What cannot be closed is an error that names it.
func TestClosedAtBootFails(t *testing.T) {
	bad := fence.Entry{Service: "bad", Kind: draas.FenceKernel, Fence: brokenFence{}}
	err := fence.CloseAll(t.Context(), filepath.Join(shortDir(t), "g"), []fence.Entry{bad}, discard)
	if err == nil || !strings.Contains(err.Error(), "close fence of bad: observed unknown: no right\ncannot look") {
		t.Errorf("%v", err)
	}
}

type brokenFence struct{ fence.Fence }

func (brokenFence) Close(context.Context) error { return errors.New("no right") }
func (brokenFence) State(context.Context) (fence.State, error) {
	return fence.Unknown, errors.New("cannot look")
}
