package cloud

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// load keeps n requests waiting at a limiter, each of which takes a second and
// ends as the service says, and returns the limit after some seconds.
func load(t *testing.T, l *limiter, n, seconds int, bear func(inFlight int) bool) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				turn, err := l.acquire(ctx)
				if err != nil {
					return
				}
				at, _, limit, _ := l.state()
				if at > l.most || at > max(limit, 1)*2 {
					t.Errorf("%d at once, with a limit of %d", at, limit)
				}
				time.Sleep(time.Second) // the bubble's
				if bear(at) {
					turn.good()
				} else {
					turn.bad(0)
				}
			}
		})
	}
	all.Wait()
	at, waiting, limit, _ := l.state()
	if at != 0 || waiting != 0 {
		t.Errorf("%d in flight and %d waiting at the end", at, waiting)
	}
	return limit
}

func TestLimiterAdapts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got := load(t, newLimiter(4, 16), 40, 60, func(int) bool { return true }); got != 16 {
			t.Errorf("a service that bears all: %d at once", got)
		}
		if got := load(t, newLimiter(4, 16), 40, 60, func(int) bool { return false }); got != 1 {
			t.Errorf("a service that bears nothing: %d at once", got)
		}
		if got := load(t, newLimiter(16, 16), 40, 200, func(at int) bool { return at <= 6 }); got < 3 || got > 7 {
			t.Errorf("a service that bears 6: %d at once", got)
		}
		if got := load(t, newLimiter(4, 16), 2, 60, func(int) bool { return true }); got != 4 {
			t.Errorf("a limit that was never reached has grown to %d", got)
		}
	})
}

// All that ran when the first failed say the same thing.
func TestLimiterHalvesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(16, 16)
		take := func(n int) (turns []turn) {
			for range n {
				turn, err := l.acquire(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				turns = append(turns, turn)
			}
			return turns
		}
		for _, want := range []int{8, 4, 2, 1, 1} {
			_, _, limit, _ := l.state()
			turns := take(limit)
			time.Sleep(time.Millisecond)
			halved := 0
			for _, turn := range turns {
				if turn.bad(0) {
					halved++
				}
			}
			if _, _, got, _ := l.state(); got != want || halved != 1 {
				t.Errorf("limit %d after %d halvings, want %d", got, halved, want)
			}
			time.Sleep(time.Millisecond)
		}
	})
}

func TestLimiterPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, began := newLimiter(1, 1), time.Now()
		turn, err := l.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var order []int
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				turn, err := l.acquire(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if time.Since(began) < 30*time.Second {
					t.Errorf("let in after %v", time.Since(began))
				}
				order = append(order, i)
				turn.good()
			})
			synctest.Wait()
		}
		turn.bad(20 * time.Second)
		l.pause(30 * time.Second)
		l.pause(time.Second) // a shorter one takes nothing back
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.acquire(short); err == nil {
			t.Error("let in during a pause")
		}
		all.Wait()
		if len(order) != 3 || order[0] != 0 || order[1] != 1 {
			t.Errorf("order %v", order)
		}
	})
}

// Whatever gives up when, no place is lost.
func TestLimiterLosesNoPlace(t *testing.T) {
	l := newLimiter(3, 3)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(200))*time.Microsecond)
				if turn, err := l.acquire(ctx); err == nil {
					switch rand.IntN(3) {
					case 0:
						turn.good()
					case 1:
						turn.leave()
					default:
						turn.bad(0)
					}
				}
				cancel()
			}
		})
	}
	all.Wait()
	if at, waiting, limit, _ := l.state(); at != 0 || waiting != 0 || limit < 1 {
		t.Errorf("%d in flight, %d waiting, limit %d", at, waiting, limit)
	}
}

func TestWindows(t *testing.T) {
	rates := []Rate{{From: "08:00", To: "18:00", BytesPerSecond: 1}, {From: "22:00", To: "06:30", BytesPerSecond: 2}, {BytesPerSecond: 3}}
	w, err := windows(rates)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]int64{"08:00": 1, "17:59": 1, "18:00": 3, "21:59": 3, "22:00": 2, "23:59": 2, "00:00": 2, "06:29": 2, "06:30": 3, "07:59": 3} {
		p := pacer{windows: w, now: func() time.Time {
			now, err := time.Parse("15:04", at)
			if err != nil {
				t.Fatal(err)
			}
			return now
		}}
		if got := p.current().BytesPerSecond; got != want {
			t.Errorf("%s: %d, want %d", at, got, want)
		}
	}
	for _, bad := range []Rate{{From: "08:00"}, {To: "08:00"}, {From: "8", To: "9"}, {From: "24:00", To: "01:00"}, {From: "08:00", To: "08:00"},
		{RequestsPerSecond: -1}, {BytesPerSecond: -1}} {
		if _, err := windows([]Rate{bad}); err == nil {
			t.Errorf("%+v: accepted", bad)
		}
	}
}

// Rates hold over any time longer than their bursts, however many ask, and
// change with the time of the day.
func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := windows([]Rate{{From: "00:00", To: "00:01", RequestsPerSecond: 5, BytesPerSecond: 1 << 20}, {RequestsPerSecond: 50}})
		if err != nil {
			t.Fatal(err)
		}
		p, began := &pacer{windows: w, now: func() time.Time { return time.Now().UTC() }}, time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		var mu sync.Mutex
		var first, second int
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for p.request(ctx) == nil {
					mu.Lock()
					if time.Since(began) < time.Minute {
						first++
					} else {
						second++
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if first < 300 || first > 306 {
			t.Errorf("%d requests in the first minute, want 300", first)
		}
		if second < 2940 || second > 3060 {
			t.Errorf("%d requests in the second minute, want 3000", second)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w, err := windows([]Rate{{BytesPerSecond: 1 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		p, began := &pacer{windows: w, now: time.Now}, time.Now()
		for range 320 {
			if err := p.octets(t.Context(), 32<<10); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began).Seconds(); took < 9.5 || took > 10.1 {
			t.Errorf("10 MiB at 1 MiB/s took %v s", took)
		}
		time.Sleep(time.Hour) // which saves nothing up
		began = time.Now()
		for range 320 {
			if err := p.octets(t.Context(), 32<<10); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began).Seconds(); took < 9.5 {
			t.Errorf("after an idle hour 10 MiB took %v s", took)
		}
	})
}
