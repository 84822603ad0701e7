package frontend

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The paths that back ends answer.
const (
	pathSmall = "/"   // 13 bytes
	pathBig   = "/1m" // 1 MiB
)

// idleFor is how long proxies and back ends leave a quiet connection alone.
const idleFor = "600s"

// nginxConf is what every nginx here has. workers 0 makes it one process, so
// that a kill is the end of it.
func nginxConf(dir string, workers int, http string) string {
	processes := fmt.Sprintf("worker_processes %d;", workers)
	if workers == 0 {
		processes = "master_process off; worker_processes 1;"
	}
	var temp strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "%s_temp_path %s/%s; ", kind, dir, kind)
	}
	return fmt.Sprintf(`daemon off; user root; %s pid %s/pid; error_log %s/error.log;
events { worker_connections 16000; }
http {
access_log off; sendfile on; tcp_nodelay on; server_tokens off;
keepalive_requests 1000000000; keepalive_timeout %s; client_header_timeout %s;
%s
%s
}
`, processes, dir, dir, idleFor, idleFor, temp.String(), http)
}

// tlsServer is the part of nginx's TLS listeners.
func tlsServer(c certificate, address string) string {
	return fmt.Sprintf("listen %s ssl http2 backlog=4096; http2_max_requests 1000000000; ssl_certificate %s; ssl_certificate_key %s;", address, c.cert, c.key)
}

// backEnd answers small and big requests, and says which site it is.
func backEnd(dir string, workers int, site int, c certificate) string {
	return nginxConf(dir, workers, fmt.Sprintf(`server {
listen %s backlog=4096;
%s
root %s;
location = / { add_header X-Site %d; return 200 "hello, world\n"; }
location = /healthz { return 200 "ok\n"; }
location = /1m { }
}`, at(site, hostBackend, plainPort), tlsServer(c, at(site, hostBackend, tlsPort)), dir, site))
}

// nginxProxy is nginx before the primary's back end.
func nginxProxy(dir string, workers, host int, c certificate) string {
	return nginxConf(dir, workers, fmt.Sprintf(`upstream back { server %s; keepalive 256; keepalive_requests 1000000000; keepalive_timeout %s; }
server {
listen %s backlog=4096;
%s
location / { proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; }
}`, at(1, hostBackend, plainPort), idleFor, proxyAt(host, plainPort), tlsServer(c, proxyAt(host, tlsPort))))
}

// haproxyDefaults are the same for all HAProxies here.
func haproxyDefaults(threads, connections int, mode string) string {
	return fmt.Sprintf(`global
  nbthread %d
  maxconn %d
defaults
  mode %s
  timeout connect 1s
  timeout client %s
  timeout server %s
`, threads, connections, mode, idleFor, idleFor)
}

// haproxyTCP leads connections, TLS untouched.
func haproxyTCP(threads, connections, host int) string {
	return haproxyDefaults(threads, connections, "tcp") + fmt.Sprintf(`listen plain
  bind %s
  server a %s
listen tls
  bind %s
  server a %s
`, proxyAt(host, plainPort), at(1, hostBackend, plainPort), proxyAt(host, tlsPort), at(1, hostBackend, tlsPort))
}

// haproxyHTTP ends TLS and leads requests.
func haproxyHTTP(threads, connections, host int, c certificate) string {
	return haproxyDefaults(threads, connections, "http") + fmt.Sprintf(`frontend in
  bind %s
  bind %s ssl crt %s alpn h2,http/1.1
  option forwardfor
  default_backend back
backend back
  http-reuse always
  server a %s
`, proxyAt(host, plainPort), proxyAt(host, tlsPort), c.both, at(1, hostBackend, plainPort))
}

// haproxyBackup switches to the other site by itself, as soon as it sees that
// the first one does not answer. There is no decision, no fence, and nothing
// that keeps both sites from serving.
func haproxyBackup(threads, host int) string {
	return haproxyDefaults(threads, 4000, "http") + fmt.Sprintf(`frontend in
  bind %s
  default_backend back
backend back
  option httpchk GET /healthz
  timeout connect 200ms
  timeout check 100ms
  timeout server 1s
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response response-timeout junk-response 503
  default-server inter 100ms fall 2 rise 2
  server a %s check
  server b %s check backup
`, proxyAt(host, plainPort), at(1, hostBackend, plainPort), at(2, hostBackend, plainPort))
}

// nginx starts an nginx with a directory of its own, and waits until it
// accepts connections.
func (b *bench) nginx(ctx context.Context, dir, name, address string, conf func(dir string) string) (*process, error) {
	home := filepath.Join(dir, name)
	if err := os.Mkdir(home, 0o755); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	if err := os.WriteFile(filepath.Join(home, "1m"), make([]byte, 1<<20), 0o644); err != nil {
		return nil, fmt.Errorf("write big file: %w", err)
	}
	file := filepath.Join(home, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf(home)), 0o644); err != nil {
		return nil, fmt.Errorf("write configuration of %s: %w", name, err)
	}
	p, err := b.crew.start(name, "nginx", "-c", file, "-e", filepath.Join(home, "error.log"))
	if err != nil {
		return nil, err
	}
	return p, until(ctx, name+" accepts connections", func() bool { return listens(address) })
}

// haproxy starts a HAProxy, and waits until it accepts connections.
func (b *bench) haproxy(ctx context.Context, dir, name, address, conf string) (*process, error) {
	file := filepath.Join(dir, name+".cfg")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, fmt.Errorf("write configuration of %s: %w", name, err)
	}
	p, err := b.crew.start(name, "haproxy", "-db", "-q", "-f", file)
	if err != nil {
		return nil, err
	}
	return p, until(ctx, name+" accepts connections", func() bool { return listens(address) })
}

// stepLimit bounds each step of the set-up.
const stepLimit = 30 * time.Second

// until polls for something that comes about by itself.
func until(ctx context.Context, what string, done func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stepLimit, fmt.Errorf("waited %v in vain until %s", stepLimit, what))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}
