package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
)

// lagWatch runs the lag commands of the services that stand by at this site, and
// adds what the replication says of its cloud.
// What it knows of a unit is what its part that is furthest behind says; one
// part of which it is not known makes the whole unknown.
type lagWatch struct {
	log  *slog.Logger
	site draas.SiteID
	tell func(unit draas.ServiceID, l failover.Lag) // the main loop

	all     sync.WaitGroup
	mu      sync.Mutex
	sources map[draas.ServiceID]*lagSource // by service
	units   map[draas.ServiceID][]draas.ServiceID
	// carried is how far behind this site's cloud is, of the unit that it
	// follows.
	carried map[draas.ServiceID]failover.Lag
}

// lagSource is one service's command while the service stands by here.
type lagSource struct {
	unit   draas.ServiceID
	conf   config.Lag
	env    []string
	cancel context.CancelFunc // nil: not running, the service does not stand by
	lag    failover.Lag
	err    string // the last that was logged
}

func newLagWatch(site draas.SiteID, log *slog.Logger, tell func(draas.ServiceID, failover.Lag)) *lagWatch {
	return &lagWatch{site: site, log: log, tell: tell, sources: make(map[draas.ServiceID]*lagSource)}
}

// use takes over the commands of a wiring: what runs is ended, and begun anew
// by follow.
func (w *lagWatch) use(next *wiring) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sources {
		s.stop()
	}
	w.sources, w.units = make(map[draas.ServiceID]*lagSource), make(map[draas.ServiceID][]draas.ServiceID)
	was := w.carried
	w.carried = make(map[draas.ServiceID]failover.Lag)
	if conf := &next.cfg.Sync; conf.Follows != "" && conf.Clouds[w.site] != "" {
		w.carried[conf.Follows] = was[conf.Follows]
	}
	for unit, parts := range next.units {
		for _, id := range parts {
			svc, _ := next.cfg.Service(id)
			if len(svc.Lag.Command) == 0 || !slices.Contains(svc.Sites(), w.site) {
				continue
			}
			address := svc.CNAME[w.site]
			if all := svc.Addresses[w.site]; len(all) > 0 {
				address = all[0].String()
			}
			w.sources[id] = &lagSource{unit: unit, conf: svc.Lag,
				env: []string{"DRAAS_SERVICE=" + string(id), "DRAAS_SITE=" + string(w.site), "DRAAS_ADDRESS=" + address}}
			w.units[unit] = append(w.units[unit], id)
		}
	}
}

// follow runs the commands of what stands by here, and no others: what was
// known before a site was active says nothing of it afterwards.
func (w *lagWatch) follow(ctx context.Context, s failover.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, src := range w.sources {
		sv := s.Services[src.unit]
		standby := sv != nil && sv.Active != "" && sv.Active != w.site
		switch {
		case standby && src.cancel == nil && ctx.Err() == nil:
			src.lag = failover.Lag{}
			w.told(src.unit)
			runs, cancel := context.WithCancel(ctx)
			src.cancel = cancel
			w.all.Go(func() { w.run(runs, id, src) })
		case !standby && src.cancel != nil:
			src.stop()
			src.lag = failover.Lag{}
			w.told(src.unit)
		}
	}
}

func (s *lagSource) stop() {
	if s.cancel != nil {
		s.cancel()
		s.cancel = nil
	}
}

// told tells what is known of a unit. w.mu is held.
func (w *lagWatch) told(unit draas.ServiceID) {
	worst := failover.Lag{Known: true}
	for _, id := range w.units[unit] {
		l := w.sources[id].lag
		worst.Known = worst.Known && l.Known
		worst.Behind = max(worst.Behind, l.Behind)
	}
	if l, follows := w.carried[unit]; follows {
		worst.Known = worst.Known && l.Known
		worst.Behind = max(worst.Behind, l.Behind)
	}
	if !worst.Known {
		worst.Behind = 0
	}
	w.tell(unit, worst)
}

// carry takes how far this site's cloud is behind, of the unit that it follows:
// the worse of that and of what the commands say counts.
func (w *lagWatch) carry(unit draas.ServiceID, l failover.Lag) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if was, follows := w.carried[unit]; !follows || was == l {
		return
	}
	w.carried[unit] = l
	w.told(unit)
}

// wait ends all commands and waits for them. Nothing may follow it.
func (w *lagWatch) wait() {
	w.mu.Lock()
	for _, s := range w.sources {
		s.stop()
	}
	w.mu.Unlock()
	w.all.Wait()
}

func (w *lagWatch) run(ctx context.Context, id draas.ServiceID, src *lagSource) {
	tick := time.NewTicker(src.conf.Interval)
	defer tick.Stop()
	for {
		out, err := command{argv: src.conf.Command, env: src.env, timeout: src.conf.Timeout}.run(ctx)
		var l failover.Lag
		if err == nil {
			l, err = parseLag(out)
		}
		if ctx.Err() != nil {
			return
		}
		w.took(id, src, l, err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// took takes a run's result, unless the source was stopped meanwhile.
func (w *lagWatch) took(id draas.ServiceID, src *lagSource, l failover.Lag, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sources[id] != src || src.cancel == nil {
		return
	}
	switch {
	case err != nil && err.Error() != src.err:
		src.err = err.Error()
		w.log.Warn("how far the copy is behind is not known", "service", id, "err", err)
	case err == nil && src.err != "":
		src.err = ""
		w.log.Info("how far the copy is behind is known again", "service", id, "behind", l.Behind)
	}
	src.lag = l
	w.told(src.unit)
}

// maxLag bounds what a command may say, in seconds: more is a mistake.
const maxLag = 10 * 365 * 24 * 3600

// parseLag reads one number, in seconds. Anything else is not known, and never
// zero.
func parseLag(out string) (failover.Lag, error) {
	text := strings.TrimSpace(out)
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(seconds) || seconds < 0 || seconds > maxLag {
		return failover.Lag{}, fmt.Errorf("read lag: %.40q is no number of seconds", text)
	}
	return failover.Lag{Known: true, Behind: time.Duration(math.Ceil(seconds * float64(time.Second)))}, nil
}
