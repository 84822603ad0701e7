package health

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab"
)

// frozen is the timing of the monitor that is stopped: one failure is enough
// to accuse.
var frozen = Timing{Interval: 700 * ms, Timeout: 600 * ms, SecondLook: 15 * ms, Rise: 1, Fall: 1}

// helperMonitor watches addr and prints changes and, on SIGUSR1, the number of
// blind looks.
func helperMonitor(addr string) {
	ctx, stop := context.WithCancel(context.Background())
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	m := NewMonitor(Config{OnChange: func(_ context.Context, c Change) {
		fmt.Println(c.Verdict, c.Class)
	}})
	probe, err := HTTP(HTTPSpec{Addr: addr})
	if err != nil {
		panic(err)
	}
	if err := m.Set([]Target{{Key: shop, Check: "http", Probe: probe, Timing: frozen}}); err != nil {
		panic(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for range asked {
			s := m.Snapshot()[0].Checks[0]
			fmt.Printf("blind %d failures %d\n", s.Blind, s.Failures)
		}
	})
	running.Go(func() {
		bufio.NewReader(os.Stdin).ReadByte() // until the test is gone
		stop()
		signal.Stop(asked)
		close(asked)
	})
	m.Run(ctx)
	running.Wait()
}

// A monitor that was stopped in the middle of a look does not accuse the
// service that it could not hear, and goes on well.
func TestStoppedProcessAccusesNobody(t *testing.T) {
	lab.Calmly(t, frozen.Timeout/2, func() func() { return stoppedProcess(t) })
}

func stoppedProcess(t *testing.T) (judge func()) {
	type request struct{ answer chan bool }
	requests := make(chan request)
	over := make(chan struct{})
	addr := listen(t, func(c net.Conn) {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1024)); err != nil {
			return
		}
		r := request{make(chan bool)}
		select {
		case requests <- r:
		case <-over:
			return
		}
		if <-r.answer {
			c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
			return
		}
		untilClosed(c) // silence, until the one who asked gives up
	})
	defer close(over)
	h := startHelper(t, "monitor", addr)

	(<-requests).answer <- true
	if got := h.line(t); got != "healthy ok" {
		t.Fatalf("first change: %s", got)
	}
	asked := <-requests // a look is under way
	if err := h.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	asked.answer <- false
	select { // so long that a failure of this look and of the next would show
	case <-requests:
		t.Fatal("the stopped process still asks")
	case <-time.After(frozen.Interval + 2*frozen.Timeout):
	}
	if err := h.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	(<-requests).answer <- true
	(<-requests).answer <- true // the one before has been recorded
	if err := h.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	// With fall 1, one blind look makes the verdict unknown, and the next good
	// one healthy: but nobody is ever accused. Changes are told after they have
	// been counted.
	var changes []string
	blind, failures := -1, -1
	for blind < 0 || len(changes) < 2 {
		line := h.line(t)
		if _, err := fmt.Sscanf(line, "blind %d failures %d", &blind, &failures); err != nil {
			changes = append(changes, line)
		}
	}
	return func() {
		if blind == 0 || failures != 0 {
			t.Errorf("%d blind looks, %d failures", blind, failures)
		}
		if changes[0] != "unknown local" || changes[1] != "healthy ok" {
			t.Errorf("changes %q", changes)
		}
	}
}
