package edge

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/schemes/vip/lan"
)

// lastingHost is a host that could have the addresses and is never granted them.
type lastingHost struct {
	mu     sync.Mutex
	closed bool
}

func (*lastingHost) Fit() error { return nil }
func (*lastingHost) Take(context.Context, draas.Deadline) error {
	return errors.New("granted by nobody")
}
func (*lastingHost) Extend(draas.Deadline) error { return lan.ErrNotHeld }
func (*lastingHost) Drop() error                 { return nil }
func (*lastingHost) Events() <-chan lan.Event    { return nil }
func (*lastingHost) Status() lan.Status          { return lan.Status{} }

func (h *lastingHost) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return nil
}

func (h *lastingHost) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

// TestReloadKeepsVIPs: a file that is read again leaves a virtual IP alone that it
// does not change, and its ports open at an address that another host has.
func TestReloadKeepsVIPs(t *testing.T) {
	const (
		twoEdges = "[frontend.edge2]\n"
		web      = "[vip.web]\nholders = [\"edge1\", \"edge2\"]\naddress = [\"192.0.2.80/24 dev eth7\"]\n"
		others   = "[frontend.edge3]\n[vip.others]\nholders = [\"edge2\", \"edge3\"]\naddress = [\"192.0.2.81/24 dev eth7\"]\n"
	)
	c := newCluster(t)
	c.listen["web"] = strings.Replace(c.listen["web"], "127.0.0.1", "192.0.2.80", 1)
	var mu sync.Mutex
	var opened []*lastingHost
	c.openVIP = func(k *keeper) (addresses, error) {
		if k.v.ID != "web" {
			t.Errorf("keeps vip %s, which others may have", k.v.ID)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(opened) == 0 {
			opened = append(opened, nil)
			return nil, errors.New("this host has no nftables")
		}
		h := new(lastingHost)
		opened = append(opened, h)
		return h, nil
	}
	host := func(i int) *lastingHost {
		mu.Lock()
		defer mu.Unlock()
		if i < len(opened) {
			return opened[i]
		}
		return nil
	}
	c.write(twoEdges + web + others)
	r := c.run()
	if s := c.status(); len(s.VIPs) != 1 || s.VIPs[0].VIP != "web" || s.VIPs[0].Has {
		t.Errorf("%+v", s.VIPs)
	}
	c.await("what could not be opened is opened later", func() bool { return host(1) != nil })
	reload := func(text string) {
		was := c.status().Policy
		c.write(text)
		r.hangup <- syscall.SIGHUP
		c.await("the next file", func() bool { return c.status().Policy != was })
	}
	reload(twoEdges + web)
	if host(1).isClosed() || host(2) != nil {
		t.Error("a file that does not change it has it begun anew")
	}
	reload(twoEdges + web + "lease = \"500ms\"\n")
	c.await("another lease", func() bool { return host(1).isClosed() && host(2) != nil })
	reload(twoEdges)
	if !host(2).isClosed() || len(c.status().VIPs) > 0 {
		t.Error("it is kept although the file has it no more")
	}
	reload(twoEdges + web)
	c.await("it is back", func() bool { return host(3) != nil })
	r.stop()
	if !host(3).isClosed() {
		t.Error("it is left behind")
	}
}

// TestYieldAsked: who does not have it, or does not know it, gives nothing up.
func TestYieldAsked(t *testing.T) {
	c := newCluster(t)
	c.openVIP = func(*keeper) (addresses, error) { return new(lastingHost), nil }
	c.write("[frontend.edge2]\n[vip.web]\nholders = [\"edge1\", \"edge2\"]\naddress = [\"192.0.2.80/24 dev eth7\"]\n")
	c.run()
	client := api.Unix(c.dir + "/edge.sock")
	defer client.Close()
	for name, want := range map[string]string{"web": "does not have vip web", "mail": "no [vip.mail]"} {
		if _, err := client.Yield(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
