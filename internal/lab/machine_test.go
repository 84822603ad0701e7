package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// machine is a network namespace and a mount namespace, held by a process that
// reads its standard input. They have no names: when the processes within end,
// nothing is left of them, however the test ended.
type machine struct {
	t    *testing.T
	name string
	pid  int // of the process that holds the namespaces
}

// furnish gives a machine an /etc, a /usr and a /var to write to, laid over
// those of the host, and an empty /run.
const furnish = `
mount -t tmpfs -o mode=755 tmpfs /mnt
for d in etc usr var; do
	mkdir -p /mnt/$d/new /mnt/$d/work
	mount -t overlay -o lowerdir=/$d,upperdir=/mnt/$d/new,workdir=/mnt/$d/work overlay /$d
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/systemd
ip link set lo up
echo furnished
exec cat`

func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "--net", "--propagation", "private", "sh", "-euc", furnish)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	complaints := &output{}
	cmd.Stderr = complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Errorf("end machine %s: %v: %s", name, err, complaints)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "furnished\n" {
		_ = cmd.Process.Kill()
		t.Fatalf("make machine %s: said %q (%v): %s", name, line, err, complaints)
	}
	return &machine{t: t, name: name, pid: cmd.Process.Pid}
}

// path is where the test finds a file of the machine.
func (m *machine) path(file string) string {
	return filepath.Join("/proc", strconv.Itoa(m.pid), "root", file)
}

func (m *machine) write(file string, mode os.FileMode, data []byte) {
	m.t.Helper()
	if err := os.MkdirAll(m.path(filepath.Dir(file)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.path(file), data, mode); err != nil {
		m.t.Fatal(err)
	}
}

// command is a program to be run as root in the machine.
func (m *machine) command(dir string, argv ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(m.pid), "--mount", "--net", "--wd=" + dir, "--"}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run runs a program as root in the machine and returns what it said.
func (m *machine) run(dir string, argv ...string) string {
	m.t.Helper()
	out, err := m.command(dir, argv...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %s: %v: %s", m.name, strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// inside calls do on a thread in the machine's network. The thread goes back
// afterwards: if it ended, the processes that were once started from it would
// be told that their parent is dead.
func (m *machine) inside(do func() error) error {
	errc := make(chan error, 1)
	go func() { errc <- m.visit(do) }()
	return <-errc
}

func (m *machine) visit(do func() error) (err error) {
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.pid))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, there.Close()) }()
	home, err := os.Open("/proc/self/ns/net") // of the main thread, which never leaves
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, home.Close()) }()
	runtime.LockOSThread()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network of %s: %w", m.name, err)
	}
	err = do()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("leave network of %s: %w", m.name, back)) // still locked: the thread ends
	}
	runtime.UnlockOSThread()
	return err
}

// plug joins the machine to the switch. Every address is a host of its own,
// and everybody is on the link.
func (m *machine) plug(to *machine, addresses ...string) {
	m.t.Helper()
	for _, args := range []string{
		fmt.Sprintf("link add name eth0 type veth peer name %s netns %d", m.name, to.pid),
		"link set eth0 up",
	} {
		m.run("/", append([]string{"ip"}, strings.Fields(args)...)...)
	}
	to.run("/", "ip", "link", "set", m.name, "master", "lan", "up")
	first := ""
	for _, a := range addresses {
		if strings.Contains(a, ":") {
			m.run("/", "ip", "addr", "add", a+"/128", "dev", "eth0", "nodad")
			continue
		}
		if first == "" {
			first = a
		}
		m.run("/", "ip", "addr", "add", a+"/32", "dev", "eth0")
	}
	m.run("/", "ip", "route", "add", "default", "dev", "eth0", "src", first)
	m.run("/", "ip", "-6", "route", "add", "default", "dev", "eth0")
}

func newSwitch(t *testing.T) *machine {
	t.Helper()
	s := newMachine(t, "switch")
	s.run("/", "ip", "link", "add", "lan", "type", "bridge", "mcast_snooping", "0")
	s.run("/", "ip", "link", "set", "lan", "up")
	return s
}

// output keeps what a process says.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// wait polls until ok, or fails the test.
func wait(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%v later, still waiting for: %s", limit, what)
		}
	}
}
