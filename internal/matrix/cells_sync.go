package matrix

import (
	"context"
	"time"
)

// lagging is how long the copy of the cloud stands still before a second disaster
// follows: longer than it is ever behind.
const lagging = 3 * time.Second

// toCloud are connections of the DR site to the primary's cloud, refused.
var toCloud = cut{From: dr, To: primary, Port: cloudPort, Refuse: true}

// ofSync are disasters of the copy of the cloud: it stops, or Keystone's database
// does, alone or before the site; and the site is lost as it is being copied.
func ofSync() []cell {
	hasClouds := column.clouded
	copying := func(ctx context.Context, w *world) error { return w.copying(ctx) }
	stopSync := func(w *world) error { return w.net.sever(toCloud) }
	startSync := func(w *world) error { return w.net.join(toCloud) }
	stopDatabase := func(w *world) error { w.clouds[cloudHost(primary)].StopKeystoneDatabase(); return nil }
	startDatabase := func(w *world) error { w.clouds[cloudHost(primary)].StartKeystoneDatabase(); return nil }
	alone := func(c cell, stop, start func(*world) error) cell {
		c.Expect, c.Needs, c.Watch, c.Warned, c.Before = unnoticed, hasClouds, watch, true, copying
		c.Strike = func(_ context.Context, w *world) error { return stop(w) }
		c.Heal = start
		return c
	}
	off := func(c cell, stop, start func(*world) error) cell {
		c.Expect, c.Budget, c.Needs, c.Loss = moves, siteLost, hasClouds, true
		c.Before = func(ctx context.Context, w *world) error {
			if err := w.copying(ctx); err != nil || stop == nil {
				return err
			}
			err := stop(w)
			pause(ctx, lagging)
			return err
		}
		c.Strike = func(_ context.Context, w *world) error {
			w.feed.stop()
			return w.powerOff(w.site(primary)...)
		}
		c.Heal = func(w *world) error { return w.powerOn(w.site(primary)...) }
		c.After = start
		return c
	}
	midRun := func(ctx context.Context, w *world) error { return w.midRun(ctx) }
	return []cell{
		alone(cell{Name: "sync stopped"}, stopSync, startSync),
		alone(cell{Name: "Keystone's database stopped in mid-sync", InShort: "dns", Moment: midRun}, stopDatabase, startDatabase),
		off(cell{Name: "primary site off in mid-sync", Moment: midRun}, nil, nil),
		off(cell{Name: "sync stopped, then primary site off", InShort: "hybrid"}, stopSync, startSync),
		off(cell{Name: "Keystone's database stopped, then primary site off"}, stopDatabase, startDatabase),
	}
}
