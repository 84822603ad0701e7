package fakecloud

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Types of the services, as they stand in the catalog.
const (
	Identity     = "identity"
	Image        = "image"
	Network      = "network"
	Compute      = "compute"
	BlockStorage = "volumev3"
	ObjectStore  = "object-store"
	DNS          = "dns"
)

// Options of a cloud. The zero value is a whole cloud in region RegionOne
// which tells the true time.
type Options struct {
	Region   string
	Password string // of the user admin; "secret" when empty
	// Listen is the IPv4 address and port that the cloud has; a free port of
	// 127.0.0.1 when empty. Start and Revive open it on the thread that calls
	// them, so that it may be one of another network.
	Listen string
	// Without lists service types that this cloud does not have.
	Without []string
	// Clock is the cloud's own idea of the time: its Date headers, time
	// stamps and token expiry follow it. time.Now when nil.
	Clock func() time.Time
	// TokenLife is how long a token serves; one hour when zero.
	TokenLife time.Duration
	// Latency is added to every request.
	Latency time.Duration
	// PendingDNS is for how many readings a changed zone or record set stays
	// PENDING before it is ACTIVE.
	PendingDNS int
	// Seed of ids; drawn when zero.
	Seed uint64
}

// TB is what New needs of a test or benchmark.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// New starts a cloud that ends with the test.
func New(t TB, opts Options) *Cloud {
	t.Helper()
	c, err := Start(opts)
	if err != nil {
		t.Fatalf("start fake cloud: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

// Cloud is a running cloud. All methods may be called at any time from any
// goroutine.
type Cloud struct {
	opts Options
	addr string // host:port, the same for its whole life
	mux  *http.ServeMux

	faults   faultBook
	counters counters

	life   sync.Mutex // guards server, served and down
	server *http.Server
	served chan struct{}
	down   chan struct{} // closed when the cloud dies: ends waits in handlers

	mu        sync.Mutex // guards all below
	rng       *rand.Rand
	skew      time.Duration
	identity  identityState
	images    imageState
	network   networkState
	compute   computeState
	block     blockState
	objects   objectState
	dns       dnsState
	extraTime time.Duration // moved by Advance
}

// Start gives a running cloud. Close it.
func Start(opts Options) (*Cloud, error) {
	if opts.Region == "" {
		opts.Region = "RegionOne"
	}
	if opts.Password == "" {
		opts.Password = "secret"
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.TokenLife == 0 {
		opts.TokenLife = time.Hour
	}
	if opts.Seed == 0 {
		opts.Seed = rand.Uint64()
	}
	if opts.Listen == "" {
		opts.Listen = "127.0.0.1:0"
	}
	c := &Cloud{opts: opts, addr: opts.Listen, rng: rand.New(rand.NewPCG(opts.Seed, 1))}
	c.routes()
	if err := c.Revive(); err != nil {
		return nil, err
	}
	c.bootstrap()
	return c, nil
}

func (c *Cloud) routes() {
	c.mux = http.NewServeMux()
	c.identityRoutes()
	c.imageRoutes()
	c.networkRoutes()
	c.computeRoutes()
	c.blockRoutes()
	c.dnsRoutes()
	c.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		service, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		c.serve(w, r, route{service: serviceAt(service), pattern: "?", open: true}, func(*request) (reply, error) {
			return reply{}, failed(http.StatusNotFound, "The resource could not be found.")
		})
	})
}

// serviceAt names the service behind the first part of a path.
func serviceAt(first string) string {
	if first == "volume" {
		return BlockStorage
	}
	return first
}

// ServeHTTP implements http.Handler. Swift's names may hold anything,
// doubled slashes and dots too, which a ServeMux would clean away.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", c.Now().UTC().Format(http.TimeFormat))
	if strings.HasPrefix(r.URL.Path, "/object-store/") {
		c.serveObjects(w, r)
		return
	}
	c.mux.ServeHTTP(w, r)
}

// Now is the time by the cloud's clock, skew included.
func (c *Cloud) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

// now is Now for those who hold the lock.
func (c *Cloud) now() time.Time { return c.opts.Clock().Add(c.skew + c.extraTime) }

// Advance moves the cloud's clock forward for good: tokens age, time stamps
// of later changes differ.
func (c *Cloud) Advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.extraTime += by
}

// SetSkew sets how far the cloud's clock is wrong.
func (c *Cloud) SetSkew(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew = by
}

// SetLatency changes what is added to every request.
func (c *Cloud) SetLatency(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opts.Latency = d
}

// URL is where the cloud's Keystone is found, version included.
func (c *Cloud) URL() string { return "http://" + c.addr + "/identity/v3" }

// Endpoint is the catalog's URL of a service, without a trailing slash.
// Cinder's and Swift's end with the project.
func (c *Cloud) Endpoint(service, project string) string {
	base := "http://" + c.addr + "/"
	switch service {
	case Compute:
		return base + "compute/v2.1"
	case BlockStorage:
		return base + "volume/v3/" + project
	case ObjectStore:
		return base + "object-store/v1/AUTH_" + project
	}
	return base + service
}

// Has tells whether a service stands in the catalog.
func (c *Cloud) Has(service string) bool { return !slices.Contains(c.opts.Without, service) }

// YAML is a clouds.yaml with this cloud under the given name, entered by its
// administrator.
func (c *Cloud) YAML(name string) string {
	return "clouds:\n" + c.YAMLEntry(name)
}

// YAMLEntry is what stands below "clouds:", for files of several clouds.
func (c *Cloud) YAMLEntry(name string) string {
	return fmt.Sprintf(`  %s:
    auth:
      auth_url: %s
      username: admin
      password: %s
      project_name: admin
      user_domain_name: Default
      project_domain_name: Default
    region_name: %s
    interface: public
    identity_api_version: 3
`, name, c.URL(), c.opts.Password, c.opts.Region)
}

// Kill ends the listener and every connection, as when a whole cloud dies.
// Its state stays. It waits for requests that are being handled.
func (c *Cloud) Kill() {
	c.life.Lock()
	defer c.life.Unlock()
	if c.server == nil {
		return
	}
	close(c.down)
	_ = c.server.Close() // whatever it says, nobody is served any more
	<-c.served
	<-c.counters.drained()
	c.server = nil
}

// Revive opens a killed cloud again, on the same address.
func (c *Cloud) Revive() error {
	c.life.Lock()
	defer c.life.Unlock()
	if c.server != nil {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp4", c.addr)
	if err != nil {
		return fmt.Errorf("open fake cloud: %w", err)
	}
	c.addr = listener.Addr().String()
	c.down, c.served = make(chan struct{}), make(chan struct{})
	down, served := c.down, c.served
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.counters.enter()
		defer c.counters.leave()
		c.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), downKey{}, down)))
	})}
	c.server = server
	go func() {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			// The listener is ours alone; it fails only when the host does.
			panic(fmt.Sprintf("fake cloud ends: %v", err))
		}
	}()
	return nil
}

// downKey finds, in a request's context, the channel that closes when the
// cloud dies.
type downKey struct{}

// Close ends the cloud.
func (c *Cloud) Close() { c.Kill() }
