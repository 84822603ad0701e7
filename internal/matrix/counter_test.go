package matrix

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab"
	"github.com/draasd/draas/rto"
)

// pairOfCounters runs two copies, and returns where they are asked.
func pairOfCounters(t *testing.T, lag time.Duration) (at map[string]string) {
	t.Helper()
	at, replica := make(map[string]string), make(map[string]string)
	for _, s := range sites {
		at[s], replica[s] = lab.FreeAddress(t, "127.91.0.1"), lab.FreeAddress(t, "127.91.0.2")
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i, s := range sites {
		all.Go(func() {
			err := runCounter(ctx, counterOptions{Listen: at[s], Replica: replica[s], Other: replica[sites[1-i]], Lag: lag, Service: service, Site: s})
			if err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { cancel(); all.Wait(); http.DefaultClient.CloseIdleConnections() })
	for _, s := range sites {
		until(t, s+" answers", func() bool { _, err := askOnce(at[s]); return err == nil })
	}
	return at
}

func rows(t *testing.T, at, run string) string {
	t.Helper()
	res, err := http.Get("http://" + at + "/rows?run=" + run)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A write is there at once where it was taken, and a lag later at the other
// copy; each once, whoever took it, in the order in which they came.
func TestCounter(t *testing.T) {
	t.Parallel()
	const lag = 300 * time.Millisecond
	at := pairOfCounters(t, lag)
	from := time.Now()
	for i, site := range []string{primary, dr, primary, primary} {
		n := []int{1, 2, 3, 3}[i]
		res, err := http.Post("http://"+at[site]+"/rows", "text/plain", strings.NewReader(fmt.Sprintf("r %d\n", n)))
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(err, res)
		}
		_ = res.Body.Close()
	}
	if got := rows(t, at[primary], "r"); got != "run r\n1\n3\nend 2\n" && time.Since(from) < lag {
		t.Errorf("the copy that took them has %q", got)
	}
	if got := rows(t, at[dr], "r"); got != "run r\n2\nend 1\n" && time.Since(from) < lag {
		t.Errorf("the other has them already: %q", got)
	}
	until(t, "both have all", func() bool {
		return rows(t, at[primary], "r") == "run r\n1\n3\n2\nend 3\n" && rows(t, at[dr], "r") == "run r\n2\n1\n3\nend 3\n"
	})
	if took := time.Since(from); took < lag {
		t.Errorf("the copies were one after %v", took)
	}
	res, err := http.Post("http://"+at[dr]+"/rows", "text/plain", strings.NewReader("nonsense"))
	if err != nil || res.StatusCode != http.StatusBadRequest {
		t.Fatal(err, res)
	}
	_ = res.Body.Close()
}

// A long connection is answered; when it is lost, what was asked on it has
// failed, and the next one is made to whoever answers then.
func TestSession(t *testing.T) {
	t.Parallel()
	at := pairOfCounters(t, time.Hour)
	r := newRelay(t, at[primary])
	var mu sync.Mutex
	var seen []answer
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- runSession(ctx, asker{Name: kindLong, URL: "http://" + r.at + "/", Kind: kindLong, Rate: 200}, func(a answer) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, a)
		})
	}()
	has := func(site string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			for _, a := range seen {
				if a.Class == rto.Good && a.Site == site && a.Done >= a.At && a.Stamp >= a.At {
					return true
				}
			}
			return false
		}
	}
	until(t, "the primary answers", has(primary))
	r.lead(at[dr])
	until(t, "the other answers", has(dr))
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	failed := 0
	for _, a := range seen {
		if a.Class != rto.Good {
			failed++
		}
	}
	if failed > 10 {
		t.Errorf("%d questions failed at the change", failed)
	}
}

// relay hands connections on to an address that may change, and ends them
// then.
type relay struct {
	at    string
	to    atomic.Value
	mu    sync.Mutex
	conns []io.Closer
}

func (r *relay) lead(to string) {
	r.to.Store(to)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	r := &relay{at: lab.FreeAddress(t, "127.91.0.3")}
	r.to.Store(to)
	ln, err := net.Listen("tcp", r.at)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", r.to.Load().(string))
			if err != nil {
				_ = in.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, in, out)
			r.mu.Unlock()
			all.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
			all.Go(func() { _, _ = io.Copy(in, out); _ = in.Close() })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); r.lead(to); all.Wait() })
	return r
}
