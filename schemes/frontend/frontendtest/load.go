package frontendtest

import (
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// answer is what one request came to.
type answer struct {
	start, end time.Time
	site       draas.SiteID // empty: no site's
}

// crowd asks all the time until it is stopped.
type crowd struct {
	stop chan struct{}
	wg   sync.WaitGroup

	mu  sync.Mutex
	all []answer
}

// gather starts so many users, half of them with connections that are kept,
// who ask every so often or as soon as they have an answer.
func gather(t testing.TB, address string, users int, every time.Duration) *crowd {
	c := &crowd{stop: make(chan struct{})}
	for i := range users {
		u := newUser(t, address, i%2 == 1)
		c.wg.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				select {
				case <-c.stop:
					return
				case <-tick.C:
				}
				a := answer{start: time.Now()}
				a.site, _ = u.ask()
				a.end = time.Now()
				c.mu.Lock()
				c.all = append(c.all, a)
				c.mu.Unlock()
			}
		})
	}
	return c
}

// await waits until one of the crowd was answered by a site: users of a busy
// machine may not come to ask between two switchovers.
func (c *crowd) await(site draas.SiteID, after time.Time) {
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(time.Millisecond) {
		c.mu.Lock()
		_, found := first(c.all, site, after)
		c.mu.Unlock()
		if found {
			return
		}
	}
}

// leave ends the crowd and tells what it was answered.
func (c *crowd) leave() []answer {
	close(c.stop)
	c.wg.Wait()
	return c.all
}

// first is the end of the first answer of a site among those that came after.
func first(all []answer, site draas.SiteID, after time.Time) (time.Time, bool) {
	var found time.Time
	for _, a := range all {
		if a.site == site && a.end.After(after) && (found.IsZero() || a.end.Before(found)) {
			found = a.end
		}
	}
	return found, !found.IsZero()
}

// switchover is when a site was made active.
type switchover struct {
	from, to draas.SiteID
	at       time.Time
	until    time.Time // when the next one began
}

// load switches over many times, in three ways, and wants that nobody who asks
// after the first answer of the new site is answered by the old one.
func load(t *testing.T, f *front) {
	const times = 6
	f.activate(primary, long)
	f.leads()
	crowd := gather(t, f.proxy.Address(), 4, 2*time.Millisecond)
	var all []switchover
	for i := range times {
		from, to := f.site, dr
		if from == dr {
			to = primary
		}
		if len(all) > 0 {
			all[len(all)-1].until = time.Now()
		}
		if i%3 != 0 { // else with no word before
			f.decide(frontend.Decision{Epoch: f.epoch, Site: from, Moving: true, Permit: long})
			if i%3 == 2 {
				f.shuts("a move is under way")
			}
			f.decide(frontend.Decision{Epoch: f.epoch, Site: from, Moving: true, Released: true})
		}
		at := time.Now()
		all = append(all, switchover{from: from, to: to, at: at})
		f.activate(to, long)
		f.leads()
		crowd.await(to, at)
	}
	all[len(all)-1].until = time.Now()
	answers := crowd.leave()
	wrong := 0
	for i, s := range all {
		moved, ok := first(answers, s.to, s.at)
		if !ok || moved.Sub(s.at) > deadline {
			t.Errorf("switchover %d to %s: no answer of it within %v", i, s.to, deadline)
			continue
		}
		for _, a := range answers {
			if a.site == s.from && a.start.After(moved) && a.end.Before(s.until) {
				wrong++
				t.Logf("switchover %d: %s answered who asked %v after the first answer of %s", i, s.from, a.start.Sub(moved), s.to)
			}
		}
	}
	served := 0
	for _, a := range answers {
		if a.site != "" {
			served++
		}
	}
	t.Logf("%d requests, %d served, %d by the wrong site", len(answers), served, wrong)
	if wrong > 0 || served < 10*times {
		t.Errorf("%d of %d answers of the wrong site", wrong, served)
	}
}
