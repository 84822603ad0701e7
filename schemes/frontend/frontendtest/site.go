package frontendtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// The sites of the suite's service, with so many servers each.
const (
	primary draas.SiteID = "primary"
	dr      draas.SiteID = "dr"
	each                 = 2
)

// every is the time between two bytes of an endless answer.
const every = 10 * time.Millisecond

// deadline is when something is taken never to come. It is no target: how long
// each takes is what the benchmarks say.
const deadline = 30 * time.Second

// Sites starts servers of both sites on loopback. They speak HTTP/1.1, which
// proxies of TCP pass on, and say which site they are of: to GET /, at once,
// and to GET /endless for as long as the connection lives.
func Sites(t testing.TB, service draas.ServiceID) frontend.Spec {
	spec := frontend.Spec{Service: service, Sites: make(map[draas.SiteID][]frontend.Server),
		Hold: frontend.Bounds{Time: 20 * time.Millisecond, Requests: 1000, Bytes: 1 << 20}}
	for _, site := range []draas.SiteID{primary, dr} {
		for range each {
			s := httptest.NewServer(handler(site))
			t.Cleanup(s.CloseClientConnections)
			t.Cleanup(s.Close)
			spec.Sites[site] = append(spec.Sites[site], frontend.Server{Address: s.Listener.Addr().String()})
		}
	}
	return spec
}

func handler(site draas.SiteID) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%s\n", site) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Accel-Buffering", "no") // for nginx
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			if _, err := fmt.Fprintf(w, "%s\n", site); err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
			}
		}
	})
	return mux
}

// errNotServed is that of an answer that is not a site's.
var errNotServed = errors.New("not served")

// user asks as one does, over one connection for as long as it lives if kept.
type user struct {
	address string
	client  http.Client
}

func newUser(t testing.TB, address string, kept bool) *user {
	transport := &http.Transport{DisableKeepAlives: !kept, MaxIdleConnsPerHost: 1}
	t.Cleanup(transport.CloseIdleConnections)
	// Who is not served is told so, and none has to wait this long for it.
	return &user{address, http.Client{Transport: transport, Timeout: 5 * time.Second}}
}

// ask returns who answered.
func (u *user) ask() (draas.SiteID, error) {
	answer, err := u.client.Get("http://" + u.address + "/")
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 100))
	if err != nil {
		return "", err
	}
	for _, site := range []draas.SiteID{primary, dr} {
		if string(body) == string(site)+"\n" && answer.StatusCode == http.StatusOK {
			return site, nil
		}
	}
	return "", fmt.Errorf("%w: %s", errNotServed, answer.Status)
}

// Stream is a connection with an endless answer.
type Stream struct {
	conn net.Conn
	stop chan struct{}
	once sync.Once
	wg   sync.WaitGroup

	mu    sync.Mutex
	last  time.Time
	quiet int // looks, one each every, since then
	ended error
}

// Open starts a stream and waits for its first byte from the site.
func Open(t testing.TB, address string) *Stream {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, deadline)
	if err != nil {
		t.Fatal(err)
	}
	s := &Stream{conn: conn, stop: make(chan struct{})}
	t.Cleanup(s.close)
	if _, err := io.WriteString(conn, "GET /endless HTTP/1.1\r\nHost: shop\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	s.wg.Go(s.read)
	s.wg.Go(s.look)
	until(t, "the first byte of an endless answer", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.last.IsZero() {
			return errors.Join(errors.New("none"), s.ended)
		}
		return nil
	})
	return s
}

func (s *Stream) read() {
	buf := make([]byte, 4096)
	for {
		_, err := s.conn.Read(buf)
		s.mu.Lock()
		if err != nil {
			s.ended = err
			s.mu.Unlock()
			return
		}
		s.last, s.quiet = time.Now(), 0
		s.mu.Unlock()
	}
}

// look counts how often nothing had come. A machine that stands still looks as
// little as its servers write: the clock alone would take that for an end.
func (s *Stream) look() {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.mu.Lock()
			s.quiet++
			s.mu.Unlock()
		}
	}
}

func (s *Stream) close() {
	_ = s.conn.Close()
	s.once.Do(func() { close(s.stop) })
	s.wg.Wait()
}

// Over says whether the answer has ended: a proxy that works on packets may cut
// it off without a word. What HAProxy has of it can come 200 ms late.
func (s *Stream) Over() bool {
	const silence = 50
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended != nil || s.quiet > silence
}

// Answered waits until a site, or nobody, answers who asks.
func Answered(t testing.TB, address string, site draas.SiteID) {
	t.Helper()
	u := newUser(t, address, false)
	until(t, "an answer of "+string(site), func() error {
		if got, err := u.ask(); got != site {
			return fmt.Errorf("%q answers: %w", got, err)
		}
		return nil
	})
}

// Ends waits until the answer has ended.
func (s *Stream) Ends(t testing.TB) {
	t.Helper()
	until(t, "the end of an endless answer", func() error {
		if !s.Over() {
			return errors.New("it goes on")
		}
		return nil
	})
}

// since says when the last byte came.
func (s *Stream) since() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// until waits until a check succeeds.
func until(t testing.TB, what string, check func() error) {
	t.Helper()
	for end := time.Now().Add(deadline); ; {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v: %v", what, deadline, err)
		}
		pause(2 * time.Millisecond)
	}
}

// throughout looks for a while whether a check holds.
func throughout(t testing.TB, while time.Duration, what string, check func() error) {
	t.Helper()
	for end := time.Now().Add(while); time.Now().Before(end); pause(2 * time.Millisecond) {
		if err := check(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func pause(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	<-ctx.Done()
}
