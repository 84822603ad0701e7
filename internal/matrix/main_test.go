package matrix

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/draasd/draas/internal/lab"
)

// The test's own program is what is started in machines for the roles.
func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	ok, err := Role(ctx, os.Args[1:], os.Stdin, os.Stdout)
	stop()
	switch {
	case err != nil:
		os.Stderr.WriteString("role: " + err.Error() + "\n")
		os.Exit(1)
	case ok:
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if made := program.dir; made != "" {
			_ = os.RemoveAll(made)
		}
		os.Exit(code)
	}))
}

// program is draasd, made once for all tests that need it.
var program struct {
	once      sync.Once
	dir, said string
	err       error
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("disasters are made on machines made of namespaces: run the tests as root (in a container that may mount will do)")
	}
	for tool, pkg := range map[string]string{"ip": "iproute2", "nft": "nftables", "sysctl": "procps", "unbound": "unbound"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test needs %s: apt-get install %s (%v)", tool, pkg, err)
		}
	}
}

// self is this program, which runs the roles.
func self(t *testing.T) string {
	t.Helper()
	file, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// build makes draasd.
func build(t *testing.T) string {
	t.Helper()
	p := &program
	p.once.Do(func() {
		if p.dir, p.err = os.MkdirTemp("", "draasd-"); p.err == nil {
			var out []byte
			out, p.err = exec.Command("go", "build", "-o", filepath.Join(p.dir, "draasd"), "../../cmd/draasd").CombinedOutput()
			p.said = string(out)
		}
	})
	if p.err != nil {
		t.Fatalf("build: %v: %s", p.err, p.said)
	}
	return filepath.Join(p.dir, "draasd")
}

// until polls for what has to become true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("still waiting until %s", what)
		}
	}
}

// testNetwork is one with users and a dr site's member in it, and the wide
// area between them.
func testNetwork(t *testing.T, ways string) *network {
	t.Helper()
	needRoot(t)
	n, err := newNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.end(); err != nil {
			t.Error(err)
		}
	})
	own := self(t)
	ctx, cancel := context.WithCancel(context.Background())
	p := lab.NewProcess("wan", filepath.Join(t.TempDir(), "wan.log"),
		func() *exec.Cmd { return n.router.Command("/", own, roleWAN, "-way", ways) },
		func(_ *lab.Process, err error, said string) { t.Errorf("the wide area ended: %v: %s", err, said) })
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	until(t, "there is a wide area", func() bool {
		_, err := n.router.Run("/", "ip", "link", "show", "dev", wanDevice)
		return err == nil
	})
	if err := n.joinWAN(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.add(users, outside, hostMember); err != nil {
		t.Fatal(err)
	}
	if _, err := n.add(dr, dr, hostMember); err != nil {
		t.Fatal(err)
	}
	return n
}
