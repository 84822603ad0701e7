package frontend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/draasd/draas/internal/bench/rounds"
)

// contender is one way to the back end.
type contender struct {
	name string
	host int      // of its addresses; 0: direct
	proc *process // nil: direct
}

func (c *contender) at(port int) string {
	if c.host == 0 {
		return at(1, hostBackend, port)
	}
	return proxyAt(c.host, port)
}

// The names of the contenders.
const (
	direct      = "direct"
	haTCP       = "HAProxy tcp"
	haHTTP      = "HAProxy http"
	engine      = "nginx"
	draasTCP    = "draas tcp"
	draasHTTP   = "draas http"
	draasMoves  = "draas"
	haMoves     = "HAProxy backup"
	undisturbed = "undisturbed" // the stand-by's back end, straight: what the machine does by itself
)

// setCosts starts the back end, the proxies and a cluster for ours.
func (b *bench) setCosts(ctx context.Context, dir string) ([]*contender, error) {
	cpus := runtime.NumCPU()
	for site := 1; site <= 2; site++ {
		_, err := b.nginx(ctx, dir, fmt.Sprintf("backend%d", site), at(site, hostBackend, plainPort),
			func(home string) string { return backEnd(home, cpus, site, b.pair) })
		if err != nil {
			return nil, err
		}
	}
	connections := (descriptors() - 100) / 2
	tcp, err := b.haproxy(ctx, dir, "haproxy-tcp", proxyAt(1, plainPort), haproxyTCP(cpus, connections, 1))
	if err != nil {
		return nil, err
	}
	http, err := b.haproxy(ctx, dir, "haproxy-http", proxyAt(2, plainPort), haproxyHTTP(cpus, connections, 2, b.pair))
	if err != nil {
		return nil, err
	}
	ngx, err := b.nginx(ctx, dir, "nginx", proxyAt(3, plainPort), func(home string) string { return nginxProxy(home, cpus, 3, b.pair) })
	if err != nil {
		return nil, err
	}
	ourTCP, ourHTTP, err := b.setOurs(ctx, dir)
	if err != nil {
		return nil, err
	}
	return []*contender{{direct, 0, nil}, {haTCP, 1, tcp}, {haHTTP, 2, http}, {engine, 3, ngx}, {draasTCP, 4, ourTCP}, {draasHTTP, 5, ourHTTP}}, nil
}

// steadyFile is a cluster whose services stay where they are.
func steadyFile(c certificate) string {
	return head("cautious", "edge-tcp", "edge-http") +
		steady("raw", "tcp", "edge-tcp", proxyAt(4, plainPort), plainPort, "") +
		steady("raw-tls", "tcp", "edge-tcp", proxyAt(4, tlsPort), tlsPort, "") +
		steady("web", "http", "edge-http", proxyAt(5, plainPort), plainPort, "") +
		steady("web-tls", "http", "edge-http", proxyAt(5, tlsPort), plainPort, fmt.Sprintf("certificate = %q\nkey = %q", c.cert, c.key))
}

// setOurs starts the cluster, with a service for each mode and for TLS, and a
// frontend for each mode.
func (b *bench) setOurs(ctx context.Context, dir string) (tcp, http *process, err error) {
	c, err := b.startCluster(ctx, dir, steadyFile(b.pair), "edge-tcp", "edge-http")
	if err != nil {
		return nil, nil, err
	}
	defer c.close()
	if _, err := c.await(ctx, "the members see each other", gathered); err != nil {
		return nil, nil, err
	}
	for _, id := range []string{"raw", "raw-tls", "web", "web-tls"} {
		if err := c.activate(ctx, id); err != nil {
			return nil, nil, err
		}
	}
	if tcp, err = c.frontend("edge-tcp"); err != nil {
		return nil, nil, err
	}
	if http, err = c.frontend("edge-http"); err != nil {
		return nil, nil, err
	}
	return tcp, http, errors.Join(answers(ctx, proxyAt(4, plainPort)), answers(ctx, proxyAt(5, plainPort)))
}

// work is one kind of load.
type work struct {
	name  string
	argv  func(c *contender, seconds string) []string
	parse func(string) (answered, error)
}

func works() []work {
	wrk := func(clients, path string, more ...string) func(*contender, string) []string {
		return func(c *contender, seconds string) []string {
			argv := append([]string{"wrk", "-t1", "-c" + clients, "-d" + seconds + "s"}, more...)
			return append(argv, "http://"+c.at(plainPort)+path)
		}
	}
	return []work{
		{"keep-alive", wrk("32", pathSmall), parseWrk},
		{"new connections", wrk("32", pathSmall, "-H", "Connection: close"), parseWrk},
		{"1 MiB", wrk("8", pathBig), parseWrk},
		{"TLS, HTTP/2", func(c *contender, seconds string) []string {
			return []string{"h2load", "-t1", "-c8", "-m10", "-D", seconds, "https://" + c.at(tlsPort) + pathSmall}
		}, parseH2load},
	}
}

// ThroughputLine is one proxy under one load.
type ThroughputLine struct {
	Load  string `json:"load"`
	Proxy string `json:"proxy"`
	// Rate is in requests a second, CPU the proxy's own processor time in us a
	// request. The ratios are those of each round.
	Rate         rounds.Range  `json:"rate"`
	ToDirect     rounds.Range  `json:"rate_to_direct"`
	CPU          *rounds.Range `json:"cpu_us,omitempty"`
	CPUToHAProxy *rounds.Range `json:"cpu_to_haproxy_tcp,omitempty"`
	CPUToNginx   *rounds.Range `json:"cpu_to_nginx,omitempty"`

	rates, cpus []float64
}

// costs measures throughput and idle connections.
func (b *bench) costs(ctx context.Context, dir string, r *Result) error {
	all, err := b.setCosts(ctx, dir)
	if err != nil {
		return err
	}
	if b.o.Throughput {
		for _, w := range works() {
			if !b.wanted(w.name) {
				continue
			}
			lines, err := b.throughput(ctx, all, w)
			if err != nil {
				return err
			}
			r.Throughput = append(r.Throughput, lines...)
		}
	}
	if b.o.Idle {
		for _, c := range all[1:] {
			line, err := b.idle(ctx, c)
			if err != nil {
				return err
			}
			r.Idle = append(r.Idle, line)
		}
	}
	return nil
}

// throughput lets one load go to every contender in turn, round by round.
func (b *bench) throughput(ctx context.Context, all []*contender, w work) ([]ThroughputLine, error) {
	lines := make([]ThroughputLine, len(all))
	seconds := strconv.Itoa(max(int(b.o.For.Seconds()), 1))
	for round := range b.o.Rounds {
		b.say("%s, round %d of %d", w.name, round+1, b.o.Rounds)
		for k := range all {
			// Another one begins in every round.
			i := (k + round) % len(all)
			c, line := all[i], &lines[i]
			var before time.Duration
			var err error
			if c.proc != nil {
				if before, err = c.proc.cpu(); err != nil {
					return nil, err
				}
			}
			a, err := tool(ctx, w.parse, w.argv(c, seconds))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			line.rates = append(line.rates, float64(a.requests)/a.seconds)
			if c.proc == nil {
				continue
			}
			after, err := c.proc.cpu()
			if err != nil {
				return nil, err
			}
			line.cpus = append(line.cpus, float64((after-before).Microseconds())/float64(a.requests))
		}
	}
	for i, c := range all {
		lines[i].Load, lines[i].Proxy = w.name, c.name
	}
	compare(lines)
	return lines, nil
}

// compare works out medians and ratios of one load's lines.
func compare(lines []ThroughputLine) {
	byName := make(map[string]*ThroughputLine)
	for i := range lines {
		byName[lines[i].Proxy] = &lines[i]
	}
	for i := range lines {
		l := &lines[i]
		l.Rate, l.ToDirect = rounds.RangeOf(l.rates), rounds.RangeOf(rounds.Ratios(l.rates, byName[direct].rates))
		if len(l.cpus) == 0 {
			continue
		}
		cpu, toHAProxy, toNginx := rounds.RangeOf(l.cpus), rounds.RangeOf(rounds.Ratios(l.cpus, byName[haTCP].cpus)), rounds.RangeOf(rounds.Ratios(l.cpus, byName[engine].cpus))
		l.CPU, l.CPUToHAProxy, l.CPUToNginx = &cpu, &toHAProxy, &toNginx
	}
}

// IdleLine is what quiet connections cost a proxy.
type IdleLine struct {
	Proxy       string  `json:"proxy"`
	Connections int     `json:"connections"`
	BeforeKiB   int     `json:"rss_before_kib"`
	AfterKiB    int     `json:"rss_after_kib"`
	PerKiB      float64 `json:"kib_per_connection"`
	CPUPercent  float64 `json:"cpu_percent"` // of one core, while nothing happens
}

// quiet is how long connections have been idle when the memory is read.
const quiet = 5 * time.Second

// idle opens connections, asks once on each of them, and leaves them alone. The
// proxy is a fresh one: memory once taken is often not given back.
func (b *bench) idle(ctx context.Context, c *contender) (line IdleLine, err error) {
	// Mode tcp takes two descriptors for each, and the proxy has others open.
	n := min(b.o.Held, (descriptors()-1000)/2)
	b.say("idle connections: %s, %d", c.name, n)
	line = IdleLine{Proxy: c.name, Connections: n}
	if c.proc, err = b.crew.again(c.proc); err != nil {
		return line, err
	}
	if err := answers(ctx, c.at(plainPort)); err != nil {
		return line, err
	}
	if line.BeforeKiB, err = c.proc.resident(); err != nil {
		return line, err
	}
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, x := range conns {
			_ = x.Close()
		}
	}()
	for range n {
		x, err := askOnce(ctx, c.at(plainPort))
		if err != nil {
			return line, fmt.Errorf("%s, connection %d: %w", c.name, len(conns)+1, err)
		}
		conns = append(conns, x)
	}
	before, err := c.proc.cpu()
	if err != nil {
		return line, err
	}
	if err := rounds.Pause(ctx, quiet); err != nil {
		return line, err
	}
	after, err := c.proc.cpu()
	if err != nil {
		return line, err
	}
	if line.AfterKiB, err = c.proc.resident(); err != nil {
		return line, err
	}
	line.PerKiB = float64(line.AfterKiB-line.BeforeKiB) / float64(n)
	line.CPUPercent = 100 * float64(after-before) / float64(quiet)
	return line, stillOpen(conns)
}

// askOnce opens a connection and asks once.
func askOnce(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	dialing, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	x, err := d.DialContext(dialing, "tcp", address)
	if err != nil {
		return nil, err
	}
	if err := getOnce(x); err != nil {
		return nil, errors.Join(err, x.Close())
	}
	return x, nil
}

func getOnce(x net.Conn) error {
	if err := x.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(x, "GET "+pathSmall+" HTTP/1.1\r\nHost: bench.test\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(x, 1024), nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", res.Status)
	}
	return nil
}

// stillOpen asks again on some of the connections: a proxy that has closed
// them holds nothing.
func stillOpen(conns []net.Conn) error {
	for i := 0; i < len(conns); i += max(len(conns)/50, 1) {
		if err := getOnce(conns[i]); err != nil {
			return fmt.Errorf("connection %d is not held: %w", i+1, err)
		}
	}
	return nil
}
