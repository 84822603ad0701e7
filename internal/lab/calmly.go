package lab

import (
	"context"
	"sync"
	"testing"
	"time"
)

// calmTries is how often an experiment is made that the machine spoils.
const calmTries = 10

// Calmly makes an experiment and then judges it, unless a goroutine that only
// waits was woken later than by so much meanwhile: what was timed on a machine
// that stood still proves nothing, whatever came of it, and is made again.
func Calmly(t testing.TB, late time.Duration, experiment func() (judge func())) {
	t.Helper()
	calmly(t, late, experiment, Late)
}

// Late is how late the machine woke, at the latest, a goroutine that only waited
// meanwhile.
func Late(do func()) time.Duration {
	var c Calm
	c.Mark()
	ctx, cancel := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() { c.Watch(ctx) })
	defer watch.Wait()
	defer cancel()
	do()
	return c.Late()
}

func calmly(t testing.TB, late time.Duration, experiment func() (judge func()), watched func(func()) time.Duration) {
	t.Helper()
	for range calmTries {
		var judge func()
		if stood := watched(func() { judge = experiment() }); stood > late {
			t.Logf("not judged: the machine let nobody run for %v", stood.Round(time.Millisecond))
			continue
		}
		judge()
		return
	}
	t.Fatalf("the machine stood still for more than %v in each of %d experiments", late, calmTries)
}
