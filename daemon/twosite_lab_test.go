package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
)

// twoLab is a cluster of two sites without a witness.
type twoLab struct {
	*lab
	kills   map[string]context.CancelFunc
	daemons map[string]*Daemon
	relays  []*relay
}

// newTwoLab makes the cluster. Each site has as many devices as are asked for:
// to switch off writes power/SITE-N-asked, and it is off when power/SITE-N-off
// is there.
func newTwoLab(t *testing.T, profile string, devices int) *twoLab {
	t.Helper()
	l := &twoLab{lab: &lab{t: t, dir: filepath.Join(t.TempDir(), "lab"), base: freeBase(t), parts: make(map[string]*part)},
		kills: make(map[string]context.CancelFunc), daemons: make(map[string]*Daemon)}
	l.log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	for to, from := range map[int]int{10: 0, 0: 10} {
		l.relays = append(l.relays, newRelay(t, fmt.Sprintf("127.0.0.1:%d", l.base+40+from), fmt.Sprintf("127.0.0.1:%d", l.base+to)))
	}
	file, err := config.Loopback(config.LoopbackOptions{BasePort: l.base, Profile: profile,
		PeerFrom: map[draas.MemberID]map[draas.MemberID]string{
			"dr":      {"primary": fmt.Sprintf("127.0.0.1:%d", l.base+40)},
			"primary": {"dr": fmt.Sprintf("127.0.0.1:%d", l.base+50)},
		}})
	if err != nil {
		t.Fatal(err)
	}
	text := string(file)
	a, b := strings.Index(text, "[member.witness]"), strings.Index(text, "[dns.demo]")
	text = "two_site = true\n" + text[:a] + text[b:]
	if devices == 0 {
		text = strings.Replace(text, "automatic = true", "automatic = false", 1)
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, site := range []string{"primary", "dr"} {
		for i := range devices {
			name := fmt.Sprintf("%s-%d", site, i+1)
			text += fmt.Sprintf("[[service.web.fence.device]]\nsite = %q\nkind = \"exec\"\noff = [\"/usr/bin/touch\", %q]\nstatus = [\"/usr/bin/test\", \"-e\", %q]\ntimeout = \"1s\"\nstay = \"0s\"\n",
				site, l.power(name+"-asked"), l.power(name+"-off"))
		}
	}
	l.bootstrap(text)
	t.Cleanup(func() {
		for _, m := range []string{"primary", "dr"} {
			l.kill(m)
		}
		for name := range l.parts {
			if err := l.stop(name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	return l
}

func (l *twoLab) bootstrap(text string) {
	l.t.Helper()
	c, err := config.Parse("failover.toml", []byte(text))
	if err != nil {
		l.t.Fatalf("%v\n%s", err, text)
	}
	ca, err := quorum.NewCA(c.Cluster, validFor(caValid))
	if err != nil {
		l.t.Fatal(err)
	}
	meta := quorum.ClusterMeta{ClusterID: quorum.NewClusterID(), Members: memberIDs(c)}
	for _, m := range c.Members {
		meta.Self = m.ID
		if err := initMember(filepath.Join(l.dir, string(m.ID)), []byte(text), ca, meta); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *twoLab) power(name string) string { return filepath.Join(filepath.Dir(l.dir), "power-"+name) }

// off has a site's device answer that it is off.
func (l *twoLab) off(site string, device int) {
	l.t.Helper()
	if err := os.WriteFile(l.power(fmt.Sprintf("%s-%d-off", site, device)), nil, 0o600); err != nil {
		l.t.Fatal(err)
	}
}

func (l *twoLab) asked(site string, device int) bool {
	_, err := os.Stat(l.power(fmt.Sprintf("%s-%d-asked", site, device)))
	return err == nil
}

// startMember starts a daemon that stop ends in order and kill does not.
func (l *twoLab) startMember(member string) {
	l.t.Helper()
	d, err := New(Options{ConfigPath: l.file(member), Log: l.log})
	if err != nil {
		l.t.Fatal(err)
	}
	killed, kill := context.WithCancel(context.Background())
	l.kills[member], l.daemons[member] = kill, d
	l.start("daemon "+member, func(ctx context.Context) error { return d.runs(killed, ctx.Done()) })
}

// kill ends a daemon without a goodbye.
func (l *twoLab) kill(member string) {
	l.t.Helper()
	kill := l.kills[member]
	if kill == nil {
		return
	}
	delete(l.kills, member)
	kill()
	if err := l.stop("daemon " + member); err != nil {
		l.t.Errorf("%s: %v", member, err)
	}
}

// startBoth starts all and makes web active at primary.
func (l *twoLab) startBoth() {
	l.t.Helper()
	for _, site := range []string{"primary", "dr"} {
		l.startService(site)
		l.startGuard(site)
		l.startMember(site)
	}
	l.await("both see their own and each other", 20*time.Second, func() bool {
		return l.sees("dr", "dr") && l.sees("dr", "primary") && l.reached("dr")
	})
	if a := l.request("primary", api.Request{Site: "primary", Request: failover.Request{Move: failover.MoveActivate}}); !a.Accepted {
		l.t.Fatalf("activate refused: %+v", a.Record)
	}
	l.awaitAt("dr", "primary")
}

// sees reports whether by a member's log a site sees itself healthy.
func (l *twoLab) sees(member string, site draas.SiteID) bool {
	sv := l.service(member)
	return sv != nil && slices.ContainsFunc(sv.Views, func(v api.View) bool {
		return v.Site == site && v.Vantage == site.Member() && v.Verdict == draas.Healthy
	})
}

// reached reports whether by a member's log both daemons reach each other.
func (l *twoLab) reached(member string) bool {
	s := l.status(member)
	return s != nil && len(s.Members) == 2 && !slices.ContainsFunc(s.Members, func(m api.MemberStatus) bool {
		return len(m.SeenBy) != 1 || slices.ContainsFunc(slices.Collect(maps.Values(m.SeenBy)), func(v draas.Verdict) bool { return v != draas.Healthy })
	})
}

// awaitAt waits until web is active at a site as a member knows it, all
// settled, and serves there.
func (l *twoLab) awaitAt(member string, site draas.SiteID) {
	l.t.Helper()
	l.await(fmt.Sprintf("web at %s, by %s", site, member), 40*time.Second, func() bool {
		sv := l.service(member)
		return sv != nil && sv.Active == site && (sv.Phase == failover.PhaseNormal || sv.Phase == failover.PhaseElsewhere) && l.answer(string(site)) == string(site)
	})
}

// ended waits for a daemon's end.
func (l *twoLab) ended(member string) error {
	l.t.Helper()
	l.mu.Lock()
	p := l.parts["daemon "+member]
	delete(l.parts, "daemon "+member)
	l.mu.Unlock()
	delete(l.kills, member)
	select {
	case err := <-p.ended:
		return err
	case <-time.After(30 * time.Second):
		l.t.Fatalf("%s does not end", member)
		return nil
	}
}

// cut cuts the link between the sites, or mends it.
func (l *twoLab) cut(yes bool) {
	for _, r := range l.relays {
		r.cut(yes)
	}
}

// relay passes connections on until it is cut.
type relay struct {
	ln    net.Listener
	to    string
	all   sync.WaitGroup
	mu    sync.Mutex
	off   bool
	conns map[net.Conn]bool
}

func newRelay(t *testing.T, at, to string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{ln: ln, to: to, conns: make(map[net.Conn]bool)}
	r.all.Go(r.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		r.cut(true)
		r.all.Wait()
	})
	return r
}

func (r *relay) accept() {
	for {
		in, err := r.ln.Accept()
		if err != nil {
			return
		}
		out, err := net.DialTimeout("tcp", r.to, time.Second)
		if err != nil || !r.keep(in, out) {
			_ = in.Close()
			if out != nil {
				_ = out.Close()
			}
			continue
		}
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			r.all.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				r.drop(in, out)
			})
		}
	}
}

func (r *relay) keep(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		if !r.off {
			r.conns[c] = true
		}
	}
	return !r.off
}

func (r *relay) drop(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(r.conns, c)
	}
}

func (r *relay) cut(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.off = yes
	for c := range r.conns {
		if yes {
			_ = c.Close()
		}
	}
}
