package edge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/internal/lab"
)

// asProcess names the file by which this executable is a frontend instead of
// its tests.
const asProcess = "DRAAS_TEST_EDGE"

func TestMain(m *testing.M) {
	if path := os.Getenv(asProcess); path != "" {
		e, err := New(Options{ConfigPath: path, Log: slog.New(slog.DiscardHandler), Clock: fence.SystemClock{}.Now})
		if err == nil {
			err = e.Run(context.Background())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// A frontend that stood still leads nobody by what it knew before, not even
// requests that came while it did: the permit has ended on its clock.
func TestFrontendThatStoodStill(t *testing.T) {
	c := newCluster(t)
	var late atomic.Bool
	var wrong atomic.Int64
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if late.Load() {
			wrong.Add(1)
		}
		fmt.Fprint(w, "primary")
	}))
	defer old.Close()
	c.sites["primary"] = old.Listener.Addr().String()
	c.hold = "8s"
	c.write("")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asProcess+"="+filepath.Join(c.dir, "failover.toml"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for _, m := range c.members {
		m.decide(api.LedService{Epoch: 1, Active: "primary", PermitNS: int64(time.Second)})
	}
	c.await("primary serves", func() bool { _, body := c.get(c.listen["web"]); return body == "primary" })
	// Users on connections that stand, and one that comes meanwhile.
	var conns []net.Conn
	for _, at := range []string{c.listen["web"], c.listen["web"], c.listen["raw"]} {
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c.await("it stands still", func() bool { return lab.StandsStill(cmd.Process.Pid) })
	stopped := time.Now()
	for _, conn := range conns {
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	late.Store(true)
	// A member may have answered while it stood still: 400 ms of wait, and then a
	// second.
	c.await("its permit has ended", func() bool { return time.Since(stopped) > 1600*time.Millisecond })
	c.decide(2, "dr")
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.await("dr serves", func() bool { _, body := c.get(c.listen["web"]); return body == "dr" })
	for i, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if answer, err := io.ReadAll(conn); err != nil && i < 2 || len(answer) > 0 && string(answer[len(answer)-2:]) != "dr" {
			t.Errorf("connection %d: %q, %v", i, answer, err)
		}
	}
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d requests came to the old site when the permit had ended", n)
	}
}
