package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// fakeDevice confirms at the n-th attempt.
type fakeDevice struct {
	mu       sync.Mutex
	attempts int
	at       int // 0: never
	seen     []draas.Epoch
	ended    int // attempts that were called off
}

func (f *fakeDevice) Off(ctx context.Context, _ draas.ServiceID, _ draas.SiteID, epoch draas.Epoch) error {
	pause(ctx, time.Second)
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		f.ended++
		return ctx.Err()
	}
	f.attempts++
	f.seen = append(f.seen, epoch)
	if f.at == 0 || f.attempts < f.at {
		return errors.New("it answers no more, which is not off")
	}
	return nil
}

// A site is off when all its devices have confirmed it in one round, and a
// command that is not wanted any more is called off.
func TestDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var off []failover.FenceCommand
		l := newDeviceLink(slog.New(slog.DiscardHandler), func(unit draas.ServiceID, epoch draas.Epoch, evidence string) {
			if evidence != "primary off, confirmed: one, two" {
				t.Errorf("evidence %q", evidence)
			}
			off = append(off, failover.FenceCommand{Service: unit, Site: "primary", Epoch: epoch})
		})
		one, two, never := &fakeDevice{at: 1}, &fakeDevice{at: 3}, &fakeDevice{}
		l.use(&wiring{devices: map[draas.ServiceID]map[draas.SiteID][]siteDevice{
			"shop": {"primary": {{one, "shop", "one"}, {two, "shop", "two"}}},
			"mail": {"primary": {{never, "mail", "three"}}},
		}})
		ctx, cancel := context.WithCancel(t.Context())
		shop, mail := failover.FenceCommand{Service: "shop", Site: "primary", Epoch: 4}, failover.FenceCommand{Service: "mail", Site: "primary", Epoch: 2}
		for range 3 {
			l.follow(ctx, []failover.FenceCommand{shop, mail, {Service: "shop", Site: "dr", Epoch: 9}})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(off) != 1 || off[0] != shop || one.attempts != 3 || two.attempts != 3 {
			t.Errorf("off %v after %d and %d attempts", off, one.attempts, two.attempts)
		}
		if never.attempts < 20 || never.seen[0] != 2 {
			t.Errorf("%d attempts, epochs %v", never.attempts, never.seen)
		}
		l.follow(ctx, []failover.FenceCommand{shop}) // it stands until the log has it
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(off) != 1 || never.ended != 1 {
			t.Errorf("off %v; the other was called off %d times", off, never.ended)
		}
		cancel()
		l.wait()
	})
}
