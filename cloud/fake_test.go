package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Where the fake's services say they are. All addresses lead to it.
const (
	authURL = "http://127.0.0.1:5000/identity"
	canary  = "correct-horse-canary"
)

// fake is an identity service and whatever a test puts beside it, over pipes:
// in a bubble its time is the bubble's.
type fake struct {
	t        *testing.T
	listener *pipes

	mu       sync.Mutex
	serve    http.HandlerFunc     // what is not the identity service's
	login    http.HandlerFunc     // instead of a token, if set
	tokens   map[string]time.Time // until when
	lifetime time.Duration
	ahead    time.Duration // of its clock
	logins   []string      // the projects asked for, or "own"
	seen     []string      // requests besides logins
	catalog  []any
	refuse   bool // to dial
	running  int  // handlers
}

// pipes is a network of one listener.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (f *fake) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	f.mu.Lock()
	refuse := f.refuse
	f.mu.Unlock()
	if refuse {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connection refused")}
	}
	here, there := net.Pipe()
	select {
	case f.listener.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// endpoint is an entry of the catalog.
func endpoint(kind, url string, more ...string) map[string]any {
	way, region := "public", "one"
	if len(more) > 0 {
		way = more[0]
	}
	if len(more) > 1 {
		region = more[1]
	}
	return map[string]any{"type": kind, "name": kind, "endpoints": []any{
		map[string]any{"interface": way, "region": region, "region_id": region, "url": url}}}
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, listener: &pipes{conns: make(chan net.Conn), done: make(chan struct{})}, tokens: make(map[string]time.Time), lifetime: time.Hour}
	f.catalog = []any{endpoint("image", "http://127.0.0.1:9292"), endpoint("volumev3", "http://127.0.0.1:8776/v3/PROJECT"),
		endpoint("compute", "http://127.0.0.1/compute/v2.1"), endpoint("network", "http://127.0.0.1:9696/networking/")}
	server := &http.Server{Handler: f}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(f.listener) // ends by Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
		f.idle()
	})
	return f
}

// idle waits for the handlers that are left, in the bubble's time.
func (f *fake) idle() {
	for {
		f.mu.Lock()
		n := f.running
		f.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(time.Second)
	}
}

// handle sets what the services answer.
func (f *fake) handle(h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serve = h
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer f.set(func() { f.running-- })
	f.mu.Lock()
	f.running++
	w.Header().Set("Date", time.Now().Add(f.ahead).UTC().Format(http.TimeFormat))
	if strings.HasSuffix(r.URL.Path, "/v3/auth/tokens") {
		login := f.login
		f.mu.Unlock()
		if login != nil {
			login(w, r)
			return
		}
		f.token(w, r)
		return
	}
	f.seen = append(f.seen, fmt.Sprintf("%s %s%s", r.Method, r.Host, r.URL))
	until, known := f.tokens[r.Header.Get("X-Auth-Token")]
	serve := f.serve
	f.mu.Unlock()
	if !known || time.Now().After(until) {
		say(w, http.StatusUnauthorized, `{"error":{"message":"The request you have made requires authentication. `+r.Header.Get("X-Auth-Token")+`"}}`)
		return
	}
	for k := range r.Header {
		if strings.HasPrefix(k, "Draas-") {
			f.t.Errorf("%s was sent", k)
		}
	}
	serve(w, r)
}

// say answers, with a length.
func say(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // the client may be gone
}

func (f *fake) token(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct{ Password string }
				}
				Credential struct{ Secret string } `json:"application_credential"`
				Token      struct{ ID string }
			}
			Scope struct {
				Project struct{ ID string }
			}
		}
	}
	text, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(text, &in)
	}
	id := in.Auth.Identity
	f.mu.Lock()
	defer f.mu.Unlock()
	_, old := f.tokens[id.Token.ID]
	if err != nil || id.Password.User.Password != canary && id.Credential.Secret != canary && !old {
		said, _ := json.Marshal("no, not by " + string(text)) // a string
		say(w, http.StatusUnauthorized, fmt.Sprintf(`{"error":{"code":401,"message":%s}}`, said))
		return
	}
	project := in.Auth.Scope.Project.ID
	if project == "" {
		project = "own"
	}
	f.logins = append(f.logins, project)
	token := fmt.Sprintf("gAAAA-canary-%d", len(f.logins))
	now := time.Now()
	f.tokens[token] = now.Add(f.lifetime)
	catalog := f.catalog
	text, _ = json.Marshal(map[string]any{"token": map[string]any{ // strings and maps
		"issued_at": now.Add(f.ahead).UTC().Format(time.RFC3339), "expires_at": now.Add(f.ahead + f.lifetime).UTC().Format(time.RFC3339), "catalog": catalog,
		"user":    map[string]any{"id": "u1", "name": "admin", "domain": map[string]any{"id": "default"}},
		"project": map[string]any{"id": project, "name": "name of " + project, "domain": map[string]any{"id": "default"}},
		"roles":   []any{map[string]any{"name": "admin"}}}})
	w.Header().Set("X-Subject-Token", token)
	say(w, http.StatusCreated, strings.ReplaceAll(string(text), "PROJECT", project))
}

// requests are those that came besides logins, and are forgotten.
func (f *fake) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.seen
	f.seen = nil
	return out
}

func (f *fake) loggedIn() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.logins)
}

// expire ends all tokens.
func (f *fake) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tokens)
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// passwordFile is a clouds.yaml.
const passwordFile = `clouds:
  dr:
    auth:
      auth_url: ` + authURL + `/v3
      username: admin
      password: ` + canary + `
      user_domain_id: default
      project_name: admin
      project_domain_id: default
`

func parse(t *testing.T, text string) Cloud {
	t.Helper()
	c, err := Parse(Source{Name: "dr"}, []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// open is Open over the fake's network.
func (f *fake) open(c Cloud, o Options) (*Session, error) {
	site, err := newSite(c, o.withDefaults())
	if err != nil {
		return nil, err
	}
	site.transport.DialContext = f.dial
	f.t.Cleanup(site.transport.CloseIdleConnections)
	s, err := site.login(f.t.Context(), c.Auth())
	if err == nil {
		site.root = s
	}
	return s, err
}

// bubble runs a test beside a fake in its own time.
func bubble(t *testing.T, o Options, test func(t *testing.T, f *fake, s *Session)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		o.Log = slog.New(slog.NewTextHandler(testLog{t}, nil))
		s, err := f.open(parse(t, passwordFile), o)
		if err != nil {
			t.Fatal(err)
		}
		test(t, f, s)
	})
}

// testLog is a log in which no secret may stand.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("canary")) {
		l.t.Errorf("in the log: %s", p)
	}
	return len(p), nil
}
