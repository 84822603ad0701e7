package proxy

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Nginx runs etc/frontend/nginx.conf.
type Nginx struct {
	*process
	Web, Stream string // where the services shop and ledger are reached
	Include     string
	PIDFile     string
	// Test and Reload are the commands for this nginx.
	Test, Reload []string
}

// StartNginx starts one with the services shop and ledger, that leads nowhere.
func StartNginx(t testing.TB) *Nginx {
	t.Helper()
	n := &Nginx{Web: Address(t), Stream: Address(t)}
	n.process = newProcess(t, "nginx libnginx-mod-stream", "nginx")
	if err := os.Chmod(n.dir, 0o755); err != nil { // workers are not root
		t.Fatal(err)
	}
	n.Include, n.PIDFile = n.path("include"), n.path("pid")
	own := []string{"nginx", "-e", n.path("error.log"), "-c", n.path("nginx.conf")}
	n.argv = append(own, "-g", "daemon off;")
	n.Test = append(own[:len(own):len(own)], "-t", "-q")
	n.Reload = append(own[:len(own):len(own)], "-s", "reload")
	n.write("nginx.conf", sample(t, "nginx.conf",
		"/run/draas/nginx", n.Include, "/run/nginx.pid", n.PIDFile,
		"listen 80;", "listen "+n.Web+";", "listen 5432;", "listen "+n.Stream+";",
		"http {\n", "http {\n    client_body_temp_path "+n.path("body")+";\n    proxy_temp_path "+n.path("proxy")+";\n"))
	n.Passive()
	n.ready = func() error {
		c, err := net.Dial("unix", filepath.Join(n.Include, "http/shop.sock"))
		if err != nil {
			return err
		}
		_ = c.Close()
		_, err = os.Stat(n.PIDFile)
		return err
	}
	n.Start()
	return n
}

// Passive puts the sample's files there, that lead nowhere, as a boot does.
func (n *Nginx) Passive() {
	n.t.Helper()
	for dir, name := range map[string]string{"http": "shop.conf", "stream": "ledger.conf"} {
		if err := os.MkdirAll(filepath.Join(n.Include, dir), 0o755); err != nil {
			n.t.Fatal(err)
		}
		n.write(filepath.Join("include", dir, name), sample(n.t, "nginx/"+name, "/run/draas/nginx", n.Include))
	}
}

// Restart starts nginx anew after it was killed: its sockets are left.
func (n *Nginx) Restart() {
	n.t.Helper()
	n.Kill()
	sockets, err := filepath.Glob(n.Include + "/*/*.sock")
	for _, s := range sockets {
		err = errors.Join(err, os.Remove(s))
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.process.Start()
}

// HangUp makes nginx read its configuration again.
func (n *Nginx) HangUp() { n.Signal(syscall.SIGHUP) }

// Edit changes a service's included file, and does not tell nginx.
func (n *Nginx) Edit(file, old, text string) {
	n.t.Helper()
	path := filepath.Join(n.Include, file)
	b, err := os.ReadFile(path)
	if err == nil && !strings.Contains(string(b), old) {
		err = errors.New("no " + old + " in " + string(b))
	}
	if err == nil {
		err = os.WriteFile(path, []byte(strings.ReplaceAll(string(b), old, text)), 0o644)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}
