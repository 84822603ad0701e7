package lab

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Timings on real processes hold on a machine that lets them run. From when on
// it counts as one that did not: a goroutine that only waits is woken so late,
// or some process has waited for a processor for such a part of the time.
const (
	calmTick = 10 * time.Millisecond
	calmLate = 150 * time.Millisecond
	calmPart = 0.4
)

// Calm watches how well the machine lets processes run.
type Calm struct {
	mu   sync.Mutex
	late time.Duration // the latest that it was woken since the mark
	at   time.Time     // of the mark
	psi  time.Duration // what pressure said then
}

// Watch watches until ctx ends.
func (c *Calm) Watch(ctx context.Context) {
	timer := time.NewTicker(calmTick)
	defer timer.Stop()
	for last := time.Now(); ; {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		c.woken(now.Sub(last) - calmTick)
		last = now
	}
}

func (c *Calm) woken(late time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = max(c.late, late)
}

func (c *Calm) Mark() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late, c.at, c.psi = 0, time.Now(), pressure()
}

// Late is the longest that the machine let nobody run since the mark.
func (c *Calm) Late() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.late
}

// Upset says why what was timed since the mark proves nothing; empty: it does.
func (c *Calm) Upset() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	waited, of := pressure()-c.psi, time.Since(c.at)
	switch {
	case c.late > calmLate:
		return fmt.Sprintf("the machine let nobody run for %v", c.late.Round(time.Millisecond))
	case waited > time.Duration(calmPart*float64(of)):
		return fmt.Sprintf("some process waited for a processor for %v of %v", waited.Round(time.Millisecond), of.Round(time.Millisecond))
	}
	return ""
}

// pressure is for how long, since the machine started, some process has waited
// for a processor (proc_pressure(5)); zero where the kernel does not say.
func pressure() time.Duration {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0
	}
	return readPressure(string(text))
}

func readPressure(text string) time.Duration {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "some ") {
			continue
		}
		_, total, _ := strings.Cut(line, "total=")
		n, err := strconv.ParseInt(strings.TrimSpace(total), 10, 64)
		if err == nil {
			return time.Duration(n) * time.Microsecond
		}
	}
	return 0
}
