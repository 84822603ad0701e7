package edge

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/draasd/draas/config"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/schemes/frontend"
)

// Each kind of proxy of others has something that drives it, and says at once
// what it lacks.
func TestDrivers(t *testing.T) {
	c := newCluster(t)
	whole, err := os.ReadFile(filepath.Join(c.dir, "failover.toml"))
	if err != nil {
		t.Fatal(err)
	}
	include := filepath.Join(t.TempDir(), "include")
	for kind, more := range map[string]string{
		config.FrontendHAProxy: "socket = \"" + filepath.Join(c.dir, "haproxy.sock") + "\"\n",
		config.FrontendNginx:   "include = \"" + include + "\"\ntest = [\"/bin/true\"]\nreload = [\"/bin/true\"]\n",
		config.FrontendNAT:     "",
	} {
		text := strings.Replace(string(whole), "access_log = \"access.log\"\n", "kind = \""+kind+"\"\n"+more, 1)
		text = strings.NewReplacer("mode = \"http\"\n", "mode = \"tcp\"\n", "hold = \"300ms\"\n", "").Replace(text)
		for _, at := range c.listen {
			text = strings.ReplaceAll(text, at, strings.Replace(at, "127.0.0.1", "192.0.2.80", 1))
		}
		for _, site := range []string{"primary", "dr"} {
			text = strings.ReplaceAll(text, c.sites[site], strings.Replace(c.sites[site], "127.0.0.1", "198.51.100.20", 1))
		}
		if kind != config.FrontendNAT {
			var kept []string
			for line := range strings.Lines(text) {
				if !strings.HasPrefix(line, "listen = ") {
					kept = append(kept, line)
				}
			}
			text = strings.Join(kept, "")
		}
		c.put("failover.toml", text)
		e, err := New(Options{ConfigPath: filepath.Join(c.dir, "failover.toml"), Log: c.log, Clock: fence.SystemClock{}.Now})
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		d, err := driverOf(e.cfg, e.self)
		if err != nil || d == nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, err := driverOf(&config.Config{}, config.Frontend{ID: "edge1", Kind: "squid"}); err == nil || !strings.Contains(err.Error(), "frontend.edge1") {
		t.Errorf("a kind that there is not: %v", err)
	}
}

// A frontend whose proxy cannot be reached runs, leads nowhere, and says so.
func TestDrivenProxyIsAway(t *testing.T) {
	c := newCluster(t)
	whole, err := os.ReadFile(filepath.Join(c.dir, "failover.toml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(whole), "access_log = \"access.log\"\n", "kind = \"haproxy\"\nsocket = \""+filepath.Join(c.dir, "none.sock")+"\"\n", 1)
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "listen = ") && !strings.HasPrefix(line, "hold = ") {
			kept = append(kept, line)
		}
	}
	c.put("failover.toml", strings.Join(kept, ""))
	c.run()
	c.decide(1, "primary")
	c.await("it says that the proxy is away", func() bool {
		s := c.status()
		d := s.Services[0].Driven
		return d != nil && !d.Known && d.Error != "" && s.Services[0].Epoch == 1
	})
	// Nor do the members take it for one that follows.
	c.await("the members are told", func() bool {
		for _, ask := range c.members[0].take() {
			if r := ask.Services[0]; r.Epoch == 1 && r.State == "wait" && r.Reason == frontend.ReasonDriving {
				return true
			}
		}
		return false
	})
}
