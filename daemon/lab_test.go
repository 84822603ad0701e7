package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
)

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if labsAtOnce != "" && !given {
		if err := flag.Set("test.parallel", labsAtOnce); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// lab is a cluster of three members with guards and web servers, all in this
// process, on loopback addresses.
type lab struct {
	t    testing.TB
	dir  string
	base int
	log  *slog.Logger
	// parts that run, by name; stopping one waits for its end.
	mu      sync.Mutex
	parts   map[string]*part
	hangups map[string]chan<- os.Signal
}

type part struct {
	cancel context.CancelFunc
	ended  chan error
}

func newLab(t testing.TB) *lab {
	t.Helper()
	return newLabOf(t, "fast")
}

// newLabOf is a lab of a profile. A test that says that nothing was lost or moved
// meanwhile wants the cautious one: a busy machine has stood still for longer
// than the balanced one's permit lasts without renewals.
func newLabOf(t testing.TB, profile string) *lab {
	t.Helper()
	l := &lab{t: t, dir: filepath.Join(t.TempDir(), "lab"), base: freeBase(t), parts: make(map[string]*part)}
	level := slog.LevelInfo
	if testing.Verbose() {
		level = slog.LevelDebug
	}
	l.log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: level}))
	if err := Init(l.dir, InitOptions{Loopback: config.LoopbackOptions{BasePort: l.base, Profile: profile}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for name := range l.parts {
			if err := l.stop(name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	return l
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p[:len(p)-1])
	return len(p), nil
}

// freeBase finds a free range of ports below those that the kernel gives to
// outgoing connections, so that none of those takes one of them meanwhile, and
// below those of the command's tests, which run at the same time.
func freeBase(t testing.TB) int {
	t.Helper()
	for range 1000 {
		base := 10000 + labPorts*rand.IntN(200)
		if _, taken := takenBases.LoadOrStore(base, true); !taken && allFree(base) {
			return base
		}
	}
	t.Fatal("no free range of ports")
	return 0
}

// labPorts is how many ports a lab has to itself.
const labPorts = 60

// takenBases are those that labs of this process have: several run at a time.
var takenBases sync.Map

func allFree(base int) bool {
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
		for _, off := range []int{0, 1, 2, 10, 11, 12, 20, 21, 30, 31, 32, 33, 34, 35, 40, 41, 50} {
			ln, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(base+off)))
			if err != nil {
				return false
			}
			if ln.Close() != nil {
				return false
			}
		}
	}
	return true
}

func (l *lab) file(member string) string { return filepath.Join(l.dir, member, "failover.toml") }

// start runs something until it is stopped.
func (l *lab) start(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{cancel: cancel, ended: make(chan error, 1)}
	l.mu.Lock()
	l.parts[name] = p
	l.mu.Unlock()
	go func() { p.ended <- run(ctx) }()
}

func (l *lab) stop(name string) error {
	l.mu.Lock()
	p := l.parts[name]
	delete(l.parts, name)
	l.mu.Unlock()
	if p == nil {
		return nil
	}
	p.cancel()
	return <-p.ended
}

func (l *lab) startDaemon(member string) {
	l.start("daemon "+member, func(ctx context.Context) error {
		d, err := New(Options{ConfigPath: l.file(member), Log: l.log})
		if err != nil {
			return err
		}
		return d.Run(ctx)
	})
}

func (l *lab) startGuard(member string) {
	hangup := make(chan os.Signal, 1)
	l.mu.Lock()
	if l.hangups == nil {
		l.hangups = make(map[string]chan<- os.Signal)
	}
	l.hangups["guard "+member] = hangup
	l.mu.Unlock()
	l.start("guard "+member, func(ctx context.Context) error {
		return RunGuard(ctx, GuardOptions{ConfigPath: l.file(member), Log: l.log, Hangup: hangup})
	})
}

// hangup has a part read its file again.
func (l *lab) hangup(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hangups[name] <- syscall.SIGHUP
}

// startService is the web server behind a site's fence.
func (l *lab) startService(site string) {
	port := l.base + 31
	if site == "dr" {
		port++
	}
	l.startServiceAt("service "+site, site, port)
}

// startServiceAt is a web server that says the site's name.
func (l *lab) startServiceAt(name, site string, port int) {
	l.start(name, func(ctx context.Context) error {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, site) })}
		stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
		defer stop()
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
}

func (l *lab) startAll() {
	for _, site := range []string{"primary", "dr"} {
		l.startService(site)
		l.startGuard(site)
	}
	for _, member := range []string{"primary", "dr", "witness"} {
		l.startDaemon(member)
	}
}

func (l *lab) client(member string) *api.Client {
	c := api.Unix(filepath.Join(l.dir, member, "data", "draasd.sock"))
	l.t.Cleanup(c.Close)
	return c
}

// await polls until the condition holds.
func (l *lab) await(what string, d time.Duration, ok func() bool) {
	l.t.Helper()
	deadline := time.Now().Add(d)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			if s := l.status("witness"); s != nil {
				l.t.Logf("status: %+v", s)
			}
			l.t.Fatalf("not within %v: %s", d, what)
		}
		<-tick.C
	}
}

func (l *lab) status(member string) *api.Status {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s, err := l.client(member).Status(ctx, false)
	if err != nil {
		return nil
	}
	return s
}

// service is what a member knows of web; nil if it does not answer.
func (l *lab) service(member string) *api.ServiceStatus {
	s := l.status(member)
	if s == nil || len(s.Services) == 0 {
		return nil
	}
	return &s.Services[0]
}

func (l *lab) awaitPhase(p failover.Phase, d time.Duration) {
	l.t.Helper()
	l.await("phase "+string(p), d, func() bool {
		sv := l.service("witness")
		return sv != nil && sv.Phase == p
	})
}

// ready reports whether a leader is known and both sites see their own
// service healthy.
func (l *lab) ready() bool {
	sv := l.service("witness")
	if sv == nil {
		return false
	}
	own := 0
	for _, v := range sv.Views {
		if v.Vantage == v.Site.Member() && v.Verdict == draas.Healthy {
			own++
		}
	}
	return own == 2
}

func (l *lab) request(member string, r api.Request) *api.Answer {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r.Service = "web"
	a, err := l.client(member).Request(ctx, r)
	if err != nil {
		l.t.Fatalf("request %s: %v", r.Move, err)
	}
	return a
}

func (l *lab) activate() {
	l.t.Helper()
	l.activateWithin(10 * time.Second)
}

// activateWithin gives the service to primary and waits until users are led
// there.
func (l *lab) activateWithin(d time.Duration) {
	l.t.Helper()
	l.await("cluster ready", 10*time.Second, l.ready)
	// On a busy machine a daemon may seem lost for a moment, which refuses it.
	var a *api.Answer
	l.await("the activation accepted", 10*time.Second, func() bool {
		a = l.request("primary", api.Request{Site: "primary", Request: failover.Request{Move: failover.MoveActivate}})
		return a.Accepted || a.Record.Kind != failover.RecordRefusal || !strings.Contains(fmt.Sprint(a.Record.Reasons), "cannot be reached")
	})
	if !a.Accepted {
		l.t.Fatalf("activate refused: %+v", a.Record)
	}
	l.awaitPhase(failover.PhaseNormal, d)
}

// answer asks the site's fenced address as a user would.
func (l *lab) answer(site string) string { return l.ask(hostOf(site), l.base+30, time.Second) }

func hostOf(site string) string {
	if site == "dr" {
		return "127.0.0.3"
	}
	return "127.0.0.2"
}

// patience is that of a user who is not served only if he is refused: a machine
// that stands still keeps him waiting.
const patience = 20 * time.Second

func (l *lab) ask(host string, port int, patience time.Duration) string {
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get(fmt.Sprintf("http://%s:%d/", host, port))
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return ""
	}
	return string(body)
}

// copyDir copies the regular files below a directory.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !entry.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}
