package fence_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel fence is tested in network namespaces: one for the site, one for
// its users, one for a host behind the site, joined by veth pairs. The test
// makes them and runs this test binary again within the site's.
//
//	users 10.77.1.2, fd77:1::2 -- 10.77.1.1 site 10.77.2.1 -- 10.77.2.2 behind
const (
	envNet  = "DRAAS_FENCE_NET" // the prefix of the namespaces' names
	siteIP  = "10.77.1.1"
	site6IP = "fd77:1::1"
	innerIP = "10.77.2.2"
)

var netns atomic.Int32

// inNamespaces runs inner in a site's namespace of its own. It needs root, ip
// and nft, and fails without them: the kernel fence is not to go untested.
func inNamespaces(t *testing.T, inner func(t *testing.T, users string)) {
	if prefix := os.Getenv(envNet); prefix != "" {
		inner(t, prefix+"u")
		return
	}
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("the kernel fence is tested in network namespaces: run the tests as root (in a container will do)")
	}
	for tool, pkg := range map[string]string{"ip": "iproute2", "nft": "nftables"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("the kernel fence's test needs %s: apt-get install %s (%v)", tool, pkg, err)
		}
	}
	prefix := fmt.Sprintf("draas%d-%d", os.Getpid(), netns.Add(1))
	s, u, b := prefix+"s", prefix+"u", prefix+"b"
	for _, ns := range []string{s, u, b} {
		run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() {
			if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
				t.Errorf("delete namespace: %v: %s", err, out)
			}
		})
	}
	run(t, "ip", "-n", s, "link", "add", "name", "users", "type", "veth", "peer", "name", "site", "netns", u)
	run(t, "ip", "-n", s, "link", "add", "name", "behind", "type", "veth", "peer", "name", "site", "netns", b)
	for _, args := range []string{
		"-n " + s + " addr add " + siteIP + "/24 dev users",
		"-n " + s + " addr add " + site6IP + "/64 dev users nodad",
		"-n " + s + " addr add 10.77.2.1/24 dev behind",
		"-n " + u + " addr add 10.77.1.2/24 dev site",
		"-n " + u + " addr add fd77:1::2/64 dev site nodad",
		"-n " + b + " addr add " + innerIP + "/24 dev site",
		"-n " + s + " link set lo up", "-n " + s + " link set users up", "-n " + s + " link set behind up",
		"-n " + u + " link set lo up", "-n " + u + " link set site up",
		"-n " + b + " link set lo up", "-n " + b + " link set site up",
		"-n " + u + " route add default via " + siteIP,
		"-n " + b + " route add default via 10.77.2.1",
		"netns exec " + s + " sysctl -qw net.ipv4.ip_forward=1",
	} {
		run(t, "ip", strings.Fields(args)...)
	}
	cmd := exec.Command("ip", "netns", "exec", s, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), envNet+"="+prefix, "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("in %s:\n%s", s, out)
	if err != nil {
		t.Fatalf("tests in the namespace: %v", err)
	}
	if !strings.Contains(string(out), "PASS") || strings.Contains(string(out), "no tests to run") {
		t.Fatal("nothing ran in the namespace")
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// inside calls do on a thread in another network namespace. The thread ends
// with the goroutine.
func inside(ns string, do func() error) error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		fd, err := unix.Open("/run/netns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Setns(fd, unix.CLONE_NEWNET), unix.Close(fd))
		}
		if err == nil {
			err = do()
		}
		errc <- err
	}()
	return <-errc
}

func dialFrom(ns, network, addr string) dialFunc {
	return func(ctx context.Context) (c net.Conn, err error) {
		err = inside(ns, func() error {
			var d net.Dialer
			c, err = d.DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}
}

func port(n uint16) string { return ":" + strconv.Itoa(int(n)) }

var nextPort atomic.Uint32

func freePort() uint16 { return uint16(20000 + nextPort.Add(1)) }

// listenEcho serves on an address of the namespace that the test runs in.
func listenEcho(t *testing.T, addr string) {
	t.Helper()
	ln := must[net.Listener](t)(net.Listen("tcp", addr))
	var wg sync.WaitGroup
	wg.Go(func() { _ = serveEcho(ln) }) // until the listener is closed
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
}
