package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas/schemes/frontend"
)

// HAProxy runs etc/frontend/haproxy.cfg.
type HAProxy struct {
	*process
	Web, Stream    string // where the services shop and ledger are reached
	Socket, Master string
}

// StartHAProxy starts one whose services shop (mode http) and ledger (mode
// tcp) have these servers.
func StartHAProxy(t testing.TB, shop, ledger frontend.Spec) *HAProxy {
	t.Helper()
	h := &HAProxy{Web: Address(t), Stream: Address(t)}
	h.process = newProcess(t, "haproxy", "haproxy", "-W")
	h.Socket, h.Master = h.path("admin"), h.path("master")
	h.argv = append(h.argv, "-S", h.Master, "-f", "haproxy.cfg")
	text := sample(t, "haproxy.cfg",
		"/run/haproxy/admin.sock mode", h.Socket+" mode", "/var/lib/haproxy/draas.state\n", h.path("state")+"\n",
		"bind :80\n", "bind "+h.Web+"\n", "bind :5432\n", "bind "+h.Stream+"\n",
		"\nglobal\n", "\nglobal\n    nbthread 2\n")
	h.write("haproxy.cfg", servers(servers(text, "shop", shop), "ledger", ledger))
	h.ready = func() error {
		_, err := h.ask("show info")
		return errors.Join(err, h.master())
	}
	h.Start()
	return h
}

// servers puts a backend's servers in the place of the sample's.
func servers(text, backend string, spec frontend.Spec) string {
	var out strings.Builder
	in, done := false, false
	for line := range strings.Lines(text) {
		f := append(strings.Fields(line), "", "")
		if f[0] == "backend" || f[0] == "frontend" {
			in = f[0] == "backend" && f[1] == backend
		}
		if !in || f[0] != "server" {
			out.WriteString(line)
			continue
		}
		if done {
			continue
		}
		done = true
		for site, list := range spec.Sites {
			for i, s := range list {
				fmt.Fprintf(&out, "    server %s-%d %s", site, i+1, s.Address)
				if strings.Contains(line, "cookie") {
					fmt.Fprintf(&out, " cookie %s%d", site, i+1)
				}
				out.WriteString("\n")
			}
		}
	}
	return out.String()
}

// Command says something to the stats socket.
func (h *HAProxy) Command(line string) string {
	h.t.Helper()
	said, err := h.ask(line)
	if err != nil {
		h.t.Fatalf("%s: %v", line, err)
	}
	return said
}

func (h *HAProxy) ask(line string) (string, error) {
	c, err := net.Dial("unix", h.Socket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// workerLine is that of a worker in the master's list.
var workerLine = regexp.MustCompile(`(?m)^\d+\s+worker\s`)

// master says whether the master answers. While it starts a worker its socket
// stands already, and goes again when it executes itself anew: a connection that
// is taken shows nothing.
func (h *HAProxy) master() error {
	c, err := net.Dial("unix", h.Master)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "show proc\n"); err != nil {
		return err
	}
	// It does not answer before its client has said all (2.6).
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if err == nil && !workerLine.Match(answer) {
		err = fmt.Errorf("the master knows no worker: %q", answer)
	}
	return err
}

// Reload does what the sample tells to do at a reload, and waits until the new
// worker answers.
func (h *HAProxy) Reload() {
	h.t.Helper()
	h.write("state", h.Command("show servers state"))
	was := h.Command("show info")
	h.Signal(syscall.SIGUSR2)
	h.wait("reload", func() error {
		now, err := h.ask("show info")
		if err == nil && line(now, "Pid:") == line(was, "Pid:") {
			err = fmt.Errorf("worker %s still answers", line(now, "Pid:"))
		}
		return errors.Join(err, h.master())
	})
}

// Restart is one with no saved state, as the sample tells to do.
func (h *HAProxy) Restart() {
	h.t.Helper()
	_ = os.Remove(h.path("state"))
	h.process.Restart()
}

func line(text, prefix string) string {
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, prefix) {
			return l
		}
	}
	return ""
}
