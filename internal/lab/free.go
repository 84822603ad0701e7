package lab

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// FreeAddress is one of a host of this machine that nobody listens at, with a
// port below those that the kernel gives to clients, so that none of them takes
// it before a server does. It is asked for by connecting: a socket that listened
// there, if only for a moment, could be held open by whatever process is being
// started just then.
func FreeAddress(t testing.TB, host string) string {
	t.Helper()
	for range 50 {
		address := net.JoinHostPort(host, strconv.Itoa(20000+rand.IntN(12000)))
		c, err := net.DialTimeout("tcp", address, time.Second)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return address
		}
		if err == nil {
			_ = c.Close()
		}
	}
	t.Fatalf("no port of %s is free", host)
	return ""
}

// StandsStill says whether every thread of a process has the state T (proc(5),
// stat: the letter behind the name in parentheses). A thread that runs when
// SIGSTOP is sent goes on until the kernel interrupts it.
func StandsStill(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if i := bytes.LastIndexByte(stat, ')'); err != nil || i < 0 || !bytes.HasPrefix(stat[i:], []byte(") T ")) {
			return false
		}
	}
	return true
}
