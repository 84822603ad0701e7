package daemon

import (
	"fmt"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/schemes/frontend"
)

const (
	// endedGrace is how long a frontend may take to ask again when a request
	// of its ended without an answer: it does so within 50 ms.
	endedGrace = 250 * time.Millisecond
	// unheardGrace is how long a frontend may take to be heard first, of a
	// member that has just started: it asks one that was away every second.
	unheardGrace = 5 * time.Second
	// unableGrace is how long a frontend may lead nobody: longer than any proxy
	// takes to be led elsewhere.
	unableGrace = 5 * time.Second
)

// Classes of what is said of frontends.
const (
	classSilent = "silent" // it has not asked for too long
	classEnded  = "ended"  // it left in the middle of a request
	classUnable = "unable" // it asks, and leads nobody
)

// hearing is how this member hears the frontends by which users of hybrids
// enter. Nobody else's are judged: theirs decide nothing.
type hearing struct {
	since    time.Duration // boot clock: this run's begin
	services map[string][]draas.ServiceID
	silent   time.Duration
	said     map[string]failover.Observation
	gone     []string // of a file before: not judged any more
}

// use takes over the frontends of a file.
func (h *hearing) use(c *config.Config) {
	h.silent, h.services = c.FrontendSilent(), make(map[string][]draas.ServiceID)
	for i := range c.Services {
		s := &c.Services[i]
		for _, w := range c.Ways(s) {
			for _, name := range w.Frontends {
				h.services[name] = append(h.services[name], s.ID)
			}
		}
	}
	for name := range h.said {
		if h.services[name] == nil {
			delete(h.said, name)
			h.gone = append(h.gone, name)
		}
	}
}

// fresh is how long a frontend's word counts.
func (h *hearing) fresh(name string) time.Duration {
	if h.services[name] != nil {
		return h.silent
	}
	return api.FrontendFresh
}

// hears reports whether what a frontend said last still counts.
func (f *frontends) hears(name string, now draas.Reading) bool {
	h := f.heard[name]
	return h != nil && now.Boot-h.at < f.hearing.fresh(name) && (h.ended == 0 || now.Boot-h.ended < endedGrace)
}

// judge is how this member hears one frontend. f.mu is held.
func (f *frontends) judge(name string, now draas.Reading) (failover.Observation, bool) {
	o := failover.Observation{Frontend: name, Verdict: draas.Failed}
	h := f.heard[name]
	switch {
	case h == nil && now.Boot-f.hearing.since < max(f.hearing.silent, unheardGrace):
		return o, false // what was never seen is not failed
	case h == nil:
		o.Class, o.Detail = classSilent, "it was not heard since this member started"
	case h.ended != 0 && now.Boot-h.ended >= endedGrace:
		o.Class, o.Detail = classEnded, "it left in the middle of a request"
	case now.Boot-h.at >= f.hearing.silent:
		o.Class, o.Detail = classSilent, fmt.Sprintf("it was not heard for %s", f.hearing.silent)
	case h.unable != 0 && now.Boot-h.unable >= max(f.hearing.silent, unableGrace):
		o.Class, o.Detail = classUnable, "it follows, and leads nobody: its proxy does not do as it is told, or it goes by another file"
	default:
		o.Verdict = draas.Healthy
	}
	return o, true
}

// unable reports whether a frontend says that it serves no hybrid that it
// should. One that waits, or has no permit to lead by, does as it is told.
func (h *hearing) unable(name string, reports map[draas.ServiceID]frontend.Report) bool {
	for _, id := range h.services[name] {
		if r, has := reports[id]; has && r.Reason != frontend.ReasonDriving {
			return false
		}
	}
	return len(h.services[name]) > 0
}

// listen is what is new in how this member hears the frontends, and those that
// are not listened to any more.
func (f *frontends) listen(now draas.Reading) (news []failover.Observation, gone []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tag == "" {
		return nil, nil // they are not answered yet
	}
	gone, f.hearing.gone = f.hearing.gone, nil
	for name := range f.hearing.services {
		o, known := f.judge(name, now)
		if was, said := f.hearing.said[name]; known && (!said || was != o) {
			f.hearing.said[name] = o
			news = append(news, o)
		}
	}
	return news, gone
}

// ended is told when a frontend left before it was answered. It counts unless
// it has asked again meanwhile: it has other requests under way.
func (f *frontends) ended(name string, asked draas.Reading) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.heard[name]; h != nil && h.at == asked.Boot {
		h.ended = f.clock().Boot
	}
}

// listen hands the decision what this member hears of frontends. It is called
// by the main loop after each of its turns, which heartbeats make often enough.
func (d *Daemon) listen(l *loop, now draas.Reading) {
	news, gone := d.frontends.listen(now)
	for _, name := range gone {
		l.replica.ForgetFrontend(name)
	}
	for _, o := range news {
		level := d.log.Info
		if o.Verdict != draas.Healthy {
			level = d.log.Warn
		}
		level("verdict changed", "of", "frontend "+o.Frontend, "verdict", o.Verdict, "class", o.Class, "detail", o.Detail)
		l.replica.Look(o)
	}
	if len(news) > 0 {
		l.post(func(*loop) {}) // they are proposed in the next turn
	}
}
