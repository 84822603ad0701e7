package nameserver

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// disk is a small file system over a directory, in a mount namespace that a
// process holds: it is gone when that process and the server have ended,
// however the test ended.
type disk struct {
	dir string
	pid int
}

func newDisk(t testing.TB, dir string, size int) *disk {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-euc",
		`mount -t tmpfs -o size="$1",mode=755 tmpfs "$2"; echo mounted; exec cat`, "sh", strconv.Itoa(size), dir)
	cmd.SysProcAttr = children()
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "mounted\n" {
		t.Fatalf("mount a small disk (needs root): said %q, %v", line, err)
	}
	return &disk{dir: dir, pid: cmd.Process.Pid}
}

// wrap runs a program where the disk is mounted. nsenter becomes it, so its
// process is still the one that was started.
func (d *disk) wrap(argv []string) []string {
	return append([]string{"nsenter", "--target", strconv.Itoa(d.pid), "--mount", "--wd=" + d.dir, "--"}, argv...)
}

// path is where a file on the disk is found from outside.
func (d *disk) path(file string) string {
	if d == nil {
		return file
	}
	return "/proc/" + strconv.Itoa(d.pid) + "/root" + file
}

func (d *disk) filler() string { return d.path(d.dir + "filler") }

// fill writes until there is no room.
func (d *disk) fill() error {
	if d == nil {
		return errors.New("no disk of its own: set Options.Size")
	}
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := f.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("close filler: %w", err)
	}
	return nil
}

func (d *disk) free() error { return os.Remove(d.filler()) }
