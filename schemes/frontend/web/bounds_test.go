package web

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// Beyond the bounds nobody waits.
func TestBounds(t *testing.T) {
	l := newLab(t, nil)
	l.table.Use([]frontend.Spec{{Service: "shop", Outlives: true, Sites: l.svc.Spec().Sites, Hold: frontend.Bounds{Time: 100 * time.Millisecond, Requests: 2, Bytes: 1 << 20}}})
	l.decide(frontend.Decision{Epoch: 1, Site: "primary", Moving: true, Permit: time.Hour})
	a, b := l.dial().send(getReq), l.dial().send(postReq)
	eventually(t, "two wait", func() bool { return l.table.Reports()[0].Held == 2 })
	third := l.dial().send(getReq).answer("GET")
	for _, r := range []reply{third, a.answer("GET"), b.answer("POST")} {
		if r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
			t.Errorf("%d %q %v, want 503 with Retry-After", r.StatusCode, r.body, r.Header)
		}
	}
	if n := l.svc.Stats.Shed.Load(); n != 3 {
		t.Errorf("%d shed, want 3", n)
	}
	l.table.Use([]frontend.Spec{{Service: "shop", Outlives: true, Sites: l.svc.Spec().Sites, Hold: frontend.Bounds{Time: second, Requests: 2, Bytes: 100}}})
	if r := l.dial().send("GET /" + strings.Repeat("x", 200) + " HTTP/1.1\r\nHost: shop\r\n\r\n").answer("GET"); r.StatusCode != 503 {
		t.Errorf("%d for one of too many bytes", r.StatusCode)
	}
}

// An upload that is replayed is whole, whatever was sent of it before; one too
// large to be kept is not replayed.
func TestUploadsAreSentAgainWhole(t *testing.T) {
	for _, c := range []struct {
		name    string
		size    int
		chunked bool
		at      int // the failing back end reads so much
		status  int
	}{
		{"early", 300 << 10, false, 1000, 200},
		{"late", 300 << 10, false, 290 << 10, 200},
		{"chunks", 300 << 10, true, 100 << 10, 200},
		{"too large", 3 << 20, false, 2 << 20, 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, func(c *Config) { c.Hosts[0].Replay = []string{"PUT /u/"} })
			l.sites["primary"].does(func(s *served) {
				buf := make([]byte, c.at)
				if _, err := io.ReadFull(s.Body, buf); err != nil {
					t.Errorf("the back end read: %v", err)
				}
				s.reset()
			})
			body := strings.Repeat("0123456789abcdef", c.size/16)
			w := l.dial()
			head := fmt.Sprintf("PUT /u/1 HTTP/1.1\r\nHost: shop\r\nX-Whole: no\r\nContent-Length: %d\r\n\r\n", len(body))
			if c.chunked {
				head = "PUT /u/1 HTTP/1.1\r\nHost: shop\r\nX-Whole: no\r\nTransfer-Encoding: chunked\r\n\r\n"
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				_, _ = w.Write([]byte(head))
				rest := body
				for len(rest) > 0 {
					n := min(len(rest), 10_000)
					p := rest[:n]
					if c.chunked {
						p = fmt.Sprintf("%x\r\n%s\r\n", n, p)
					}
					if _, err := w.Write([]byte(p)); err != nil {
						return // a refusal came first
					}
					rest = rest[n:]
				}
				if c.chunked {
					_, _ = w.Write([]byte("0\r\n\r\n"))
				}
			})
			eventually(t, "it has failed", func() bool { return len(l.classes()) > 0 })
			if c.status == 200 {
				l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: time.Hour})
			}
			r := w.answer("PUT")
			wg.Wait()
			if r.StatusCode != c.status {
				t.Fatalf("%d %q, want %d", r.StatusCode, r.body, c.status)
			}
			if got := l.sites["dr"].got(); c.status == 200 && got[0].body != body {
				t.Errorf("%d bytes of %d came, or others", len(got[0].body), len(body))
			}
			eventually(t, "nothing is kept any more", func() bool { return l.server.origin(l.svc).kept.Load() == 0 })
		})
	}
}

// Requests of many clients through a planned move and a kill: those that may be
// replayed are all answered, by the site that is active.
func TestManyThroughMoves(t *testing.T) {
	l := newLab(t, nil)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var mu sync.Mutex
	var stalls []time.Duration
	for range 8 {
		w := l.dial()
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				start := time.Now()
				if _, err := w.Write([]byte(getReq)); err != nil {
					t.Errorf("send: %v", err)
					return
				}
				r, err := w.tryAnswer("GET")
				if err != nil || r.err != nil || r.StatusCode != 200 {
					t.Errorf("%v: %v, %v", r.Response, err, r.err)
					return
				}
				mu.Lock()
				stalls = append(stalls, time.Since(start))
				mu.Unlock()
			}
		})
	}
	answered := func() int { mu.Lock(); defer mu.Unlock(); return len(stalls) }
	onwards := func() {
		n := answered()
		eventually(t, "there is load", func() bool { return answered() > n+100 })
	}
	onwards()
	epoch := frontend.Decision{Epoch: 1, Site: "primary", Permit: time.Hour}
	for range 3 {
		for _, site := range []draas.SiteID{"dr", "primary"} {
			epoch.Moving = true
			l.decide(epoch)
			eventually(t, "nothing is under way", func() bool { return l.table.Reports()[0].Flights == 0 })
			epoch = frontend.Decision{Epoch: epoch.Epoch + 1, Site: site, Permit: time.Hour}
			l.decide(epoch)
			onwards()
		}
	}
	l.sites["primary"].kill()
	l.decide(frontend.Decision{Epoch: epoch.Epoch + 1, Site: "dr", Permit: time.Hour})
	onwards()
	close(stop)
	wg.Wait()
	slices.Sort(stalls)
	t.Logf("%d answers, the longest took %v", len(stalls), stalls[len(stalls)-1])
}

// What waits costs no more than what is kept of it.
func TestHeldMemory(t *testing.T) {
	const n = 200
	l := newLab(t, nil)
	spec := *l.svc.Spec()
	spec.Hold = frontend.Bounds{Time: time.Minute, Requests: n, Bytes: n * 100}
	l.table.Use([]frontend.Spec{spec})
	for range 2 {
		l.get("/").want(t, 200, "primary GET /")
	}
	l.decide(frontend.Decision{Epoch: 1, Site: "primary", Moving: true, Permit: time.Hour})
	before := heap()
	var waiting []*wire
	for i := range n {
		waiting = append(waiting, l.dial().send([]string{getReq, postReq}[i%2]))
	}
	eventually(t, "all wait", func() bool { return l.table.Reports()[0].Held == n })
	each := (int64(heap()) - int64(before)) / n
	t.Logf("%d bytes each, the test's own side with it", each)
	if each > 24<<10 && !raced {
		t.Errorf("%d bytes for a request that waits", each)
	}
	if r := l.get("/"); r.StatusCode != 503 {
		t.Errorf("%d for one too many", r.StatusCode)
	}
	l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: time.Hour})
	for i, w := range waiting {
		w.answer("GET").want(t, 200, []string{"dr GET /g", "dr POST /p"}[i%2])
	}
}
