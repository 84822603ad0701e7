package web

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/schemes/frontend"
)

// proxyEnv has the test binary be a frontend of its own, for the benchmarks:
// it leads to the address that it holds, and says on its output where it is.
const proxyEnv = "DRAAS_WEB_PROXY"

func TestMain(m *testing.M) {
	if back := os.Getenv(proxyEnv); back != "" {
		if err := beProxy(back); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	verify(m)
}

func beProxy(back string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	table := frontend.New(frontend.Config{Clock: fence.SystemClock{}.Now, Log: slog.New(slog.DiscardHandler)}, []frontend.Spec{{
		Service: "shop",
		Sites:   map[draas.SiteID][]frontend.Server{"primary": {{Address: back}}},
		Hold:    frontend.Bounds{Time: second, Requests: 1000, Bytes: 1 << 20},
	}})
	if err := table.Apply(fence.SystemClock{}.Now(), "shop", frontend.Decision{Epoch: 1, Site: "primary", Permit: time.Hour}); err != nil {
		return err
	}
	host := Host{Service: table.Service("shop")}
	if dir := os.Getenv(proxyEnv + "_TLS"); dir != "" {
		host.Certificate, host.Key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "cert.key")
	}
	s, err := New(Config{Hosts: []Host{host}})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	return s.Serve(ctx, ln)
}

// runner is a server under measurement, in processes of its own.
type runner struct {
	addr string
	pids []int
}

// ourProxy starts the test binary as a frontend.
func ourProxy(b *testing.B, back string, env ...string) runner {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), proxyEnv+"="+back), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return runner{strings.TrimSpace(addr), []int{cmd.Process.Pid}}
}

// nginx starts Debian's nginx with one worker and this server block's content,
// with or without TLS.
func nginx(b *testing.B, upstream, kind, server string) runner {
	b.Helper()
	dir := b.TempDir()
	openDir(b, dir)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	listen := addr
	if kind == "tls" {
		listen += " ssl http2"
	}
	conf := fmt.Sprintf(`daemon off; master_process off; worker_processes 1; pid %s/pid; error_log %s/error.log; 
events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000000; sendfile on; client_body_temp_path %s/b; proxy_temp_path %s/p; fastcgi_temp_path %s/f; uwsgi_temp_path %s/u; scgi_temp_path %s/s;
%s
server { listen %s; %s } }`, dir, dir, dir, dir, dir, dir, dir, upstream, listen, server)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/nginx", "-c", file, "-e", filepath.Join(dir, "error.log"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	eventually(b, "nginx answers", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return runner{addr, []int{cmd.Process.Pid}}
}

// cpu is the processor time of the runner's processes.
func (r runner) cpu(tb testing.TB) time.Duration {
	var sum time.Duration
	for _, pid := range r.pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			tb.Fatal(err)
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
		for _, i := range []int{11, 12} {
			n, err := strconv.Atoi(f[i])
			if err != nil {
				tb.Fatal(err)
			}
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkErrors   = regexp.MustCompile(`Socket errors|Non-2xx`)
)

// load has wrk ask for so long and gives the number of answers.
func load(b *testing.B, clients int, d time.Duration, url string, args ...string) int {
	b.Helper()
	args = append([]string{"-t1", fmt.Sprintf("-c%d", clients), fmt.Sprintf("-d%ds", int(d.Seconds()))}, append(args, url)...)
	out, err := exec.Command("wrk", args...).CombinedOutput()
	m := wrkRequests.FindSubmatch(out)
	if err != nil || m == nil || wrkErrors.Match(out) {
		b.Fatalf("wrk: %v\n%s", err, out)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// loadTLS has h2load ask for so long, by HTTP/1.1 or HTTP/2.
func loadTLS(b *testing.B, clients int, d time.Duration, addr string, args ...string) int {
	b.Helper()
	args = append([]string{"-t1", fmt.Sprintf("-c%d", clients), fmt.Sprintf("-D%d", int(d.Seconds()))}, append(args, "https://"+addr+"/")...)
	out, err := exec.Command("h2load", args...).CombinedOutput()
	m := h2loadRequests.FindSubmatch(out)
	if err != nil || m == nil {
		b.Fatalf("h2load: %v\n%s", err, out)
	}
	n, _ := strconv.Atoi(string(m[1]))
	if n == 0 {
		b.Fatalf("%s", out)
	}
	return n
}

var h2loadRequests = regexp.MustCompile(`(\d+) succeeded, 0 failed`)

// BenchmarkRequest compares the processor time of a request, beside nginx's in
// the same run: both have one process, add the same fields and write no log.
func BenchmarkRequest(b *testing.B) {
	back := nginx(b, "", `listen`, `location / { return 200 "hello, world\n"; }
location /large { root `+largeFile(b)+`; }`)
	const rest = `location / { proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host; }`
	upstream := "upstream back { server " + back.addr + "; keepalive 256; keepalive_requests 1000000000; }"
	dir := b.TempDir()
	cert, key := writeCert(b, dir, "cert", "shop.test")
	plain := [2]runner{ourProxy(b, back.addr), nginx(b, upstream, "listen", rest)}
	secure := [2]runner{ourProxy(b, back.addr, proxyEnv+"_TLS="+dir),
		nginx(b, upstream, "tls", "ssl_certificate "+cert+"; ssl_certificate_key "+key+"; "+rest)}
	const round = 2 * time.Second
	for _, c := range []struct {
		name string
		of   [2]runner
		load func(*testing.B, string) int
	}{
		{"keepalive", plain, func(b *testing.B, addr string) int { return load(b, 32, round, "http://"+addr+"/") }},
		{"close", plain, func(b *testing.B, addr string) int {
			return load(b, 32, round, "http://"+addr+"/", "-H", "Connection: close")
		}},
		{"1MiB", plain, func(b *testing.B, addr string) int { return load(b, 8, round, "http://"+addr+"/large") }},
		{"tls", secure, func(b *testing.B, addr string) int { return loadTLS(b, 32, round, addr, "--h1") }},
		{"http2", secure, func(b *testing.B, addr string) int { return loadTLS(b, 8, round, addr, "-m10") }},
	} {
		b.Run(c.name, func(b *testing.B) {
			var cost, rate [2]float64
			rounds := 0
			for b.Loop() {
				for range 2 {
					rounds++
					for i, r := range c.of {
						before := r.cpu(b)
						n := c.load(b, r.addr)
						cost[i] += float64((r.cpu(b) - before).Microseconds()) / float64(n)
						rate[i] += float64(n) / round.Seconds()
					}
				}
			}
			k := float64(rounds)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(cost[0]/k, "us/request")
			b.ReportMetric(cost[1]/k, "us/nginx")
			b.ReportMetric(cost[0]/cost[1], "ratio")
			b.ReportMetric(rate[0]/k, "requests/s")
			b.ReportMetric(rate[1]/k, "nginx/s")
		})
	}
}

func largeFile(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	openDir(b, dir)
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 1<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	return dir
}

// openDir lets nginx, which serves as another user, into a directory.
func openDir(b *testing.B, dir string) {
	b.Helper()
	for p := dir; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdle holds connections that have been used and wait, and says what
// each costs the frontend's process.
func BenchmarkIdle(b *testing.B) {
	back := nginx(b, "", "listen", `location / { return 200 "hello, world\n"; }`)
	dir := b.TempDir()
	writeCert(b, dir, "cert", "shop.test")
	plain, secure := ourProxy(b, back.addr), ourProxy(b, back.addr, proxyEnv+"_TLS="+dir)
	for _, c := range []struct {
		name string
		n    int
		of   runner
		dial func() (net.Conn, error)
	}{
		{"plain", 10_000, plain, func() (net.Conn, error) { return net.Dial("tcp", plain.addr) }},
		{"tls", 2_000, secure, func() (net.Conn, error) {
			return tls.Dial("tcp", secure.addr, &tls.Config{InsecureSkipVerify: true})
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				var before int64
				var conns []net.Conn
				for i := range c.n + 100 {
					if i == 100 {
						before = c.of.resident(b)
					}
					nc, err := c.dial()
					if err != nil {
						b.Fatal(err)
					}
					conns = append(conns, nc)
					_, _ = nc.Write([]byte("GET / HTTP/1.1\r\nHost: shop\r\n\r\n"))
					if _, err := nc.Read(make([]byte, 1000)); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(c.of.resident(b)-before)/float64(c.n), "B/connection")
				for _, nc := range conns {
					_ = nc.Close()
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// resident is the memory of the runner's process, in bytes.
func (r runner) resident(b *testing.B) int64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", r.pids[0]))
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
