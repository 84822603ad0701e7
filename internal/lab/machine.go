package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Machine is a network namespace and a mount namespace, held by a process that
// reads its standard input. They have no names: when the processes within end,
// nothing is left of them, however their maker ended.
type Machine struct {
	Name string

	pid        int // of the process that holds the namespaces
	in         io.Closer
	end        func() error // waits for that process
	complaints *output
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

// children have a process group of their own, so that a terminal's Ctrl-C does
// not reach them, and end with whoever started them.
func children() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// New makes a machine. It needs root, and a container that may mount.
func New(name string) (*Machine, error) {
	cmd := exec.Command("unshare", "--mount", "--net", "--propagation", "private", "sh", "-euc", furnish)
	cmd.SysProcAttr = children()
	m := &Machine{Name: name, end: cmd.Wait, complaints: &output{}}
	cmd.Stderr = m.complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make machine %s: %w", name, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make machine %s: %w", name, err), in.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("make machine %s: %w", name, err), in.Close(), out.Close())
	}
	m.in, m.pid = in, cmd.Process.Pid
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "furnished\n" {
		_ = cmd.Process.Kill() // it may have ended
		_ = m.Close()          // with the same complaint
		return nil, fmt.Errorf("make machine %s: said %q (%w): %s", name, line, err, m.complaints)
	}
	return m, nil
}

// Close ends the process that holds the machine. The machine is gone when the
// processes that were started in it have ended, too.
func (m *Machine) Close() error {
	if err := errors.Join(m.in.Close(), m.end()); err != nil {
		return fmt.Errorf("end machine %s: %w: %s", m.Name, err, m.complaints)
	}
	return nil
}

// PID is that of the process that holds the machine: `ip link ... netns PID`.
func (m *Machine) PID() int { return m.pid }

// Path is where a file of the machine is found from outside.
func (m *Machine) Path(file string) string {
	return filepath.Join("/proc", strconv.Itoa(m.pid), "root", file)
}

// Command is a program to be run as root in the machine.
func (m *Machine) Command(dir string, argv ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(m.pid), "--mount", "--net", "--wd=" + dir, "--"}, argv...)...)
	cmd.SysProcAttr = children()
	return cmd
}

// Run runs a program as root in the machine and returns what it said.
func (m *Machine) Run(dir string, argv ...string) (string, error) {
	out, err := m.Command(dir, argv...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %s: %w: %s", m.Name, strings.Join(argv, " "), err, out)
	}
	return string(out), nil
}

// Inside calls do on a thread in the machine's network, for however long that
// takes. The thread goes back afterwards: if it ended, the processes that were
// once started from it would be told that their parent is dead.
func (m *Machine) Inside(do func() error) error {
	errc := make(chan error, 1)
	go func() { errc <- m.visit(do) }()
	return <-errc
}

func (m *Machine) visit(do func() error) (err error) {
	home, err := os.Open("/proc/self/ns/net") // of the main thread, which never leaves
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, home.Close()) }()
	runtime.LockOSThread()
	if err := m.enter(); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = do()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("leave network of %s: %w", m.Name, back)) // still locked: the thread ends
	}
	runtime.UnlockOSThread()
	return err
}

// enter moves the calling thread.
func (m *Machine) enter() (err error) {
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.pid))
	if err != nil {
		return fmt.Errorf("enter network of %s: %w", m.Name, err)
	}
	defer func() { err = errors.Join(err, there.Close()) }()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network of %s: %w", m.Name, err)
	}
	return nil
}
