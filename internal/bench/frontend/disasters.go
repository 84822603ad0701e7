package frontend

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/internal/bench/rounds"
)

// The events.
const (
	eventKilled  = "service killed"
	eventHangs   = "service hangs"
	eventPlanned = "planned move"
)

// DowntimeLine is what an event cost the users of one proxy.
type DowntimeLine struct {
	Event  string `json:"event"`
	Proxy  string `json:"proxy"`
	Rate   int    `json:"rate"` // requests a second
	Runs   int    `json:"runs"`
	Sent   int    `json:"sent"`
	Failed int    `json:"failed"`
	// Failure is one of the failures.
	Failure string `json:"failure,omitempty"`
	// Stalls are the longest waits of a request, one of each run; Requests the
	// 99th percentiles of all waits after the event; Before the longest waits
	// in the seconds before it. All in ms.
	Stalls   Spread `json:"longest_stall_ms"`
	Requests Spread `json:"p99_of_requests_ms"`
	Before   Spread `json:"before_ms"`
	Switched Spread `json:"switched_ms"`
	Held     int64  `json:"held,omitempty"`
	Replayed int64  `json:"replayed,omitempty"`
	Steps    *Steps `json:"steps_ms,omitempty"`
}

// Spread is the distribution of one figure over runs.
type Spread struct {
	P50 float64   `json:"p50"`
	P99 float64   `json:"p99"`
	Max float64   `json:"max"`
	All []float64 `json:"all"`
}

func spreadOf(values []float64) Spread {
	return Spread{rounds.Percentile(values, 50), rounds.Percentile(values, 99), rounds.Percentile(values, 100), values}
}

// Steps are where the time of a move went, by the stamps of the log: from the
// event until the service was suspected, the move decided, the old permit
// released, the new site active; then until a user had its first answer.
type Steps struct {
	Suspected Spread `json:"suspected"`
	Decided   Spread `json:"decided"`
	Released  Spread `json:"released"`
	Activated Spread `json:"activated"`
	Answered  Spread `json:"answered"`
}

const moving draas.ServiceID = "web"

// Where the proxies of the disasters listen.
const (
	hostOurs   = 6
	hostBackup = 7
)

// movingFile is a cluster with one service, which is moved when its site's back
// end is lost. Users come by the guard's gate: the back end has no other way in.
func movingFile() string {
	return head("fast", "edge") + fmt.Sprintf(`[service.web]
scheme = "frontend"
home = "primary"
automatic = true
address.primary = ["127.66.1.%d"]
address.dr = ["127.66.2.%d"]
[[service.web.check]]
type = "http"
port = %d
path = "/healthz"
[service.web.frontend]
mode = "http"
listen = [%q]
server.primary = [%q]
server.dr = [%q]
hold_requests = 10000
[service.web.fence]
kind = "path"
listen.primary = %q
listen.dr = %q
forward.primary = %q
forward.dr = %q
`, hostGate, hostGate, plainPort, proxyAt(hostOurs, plainPort), at(1, hostGate, plainPort), at(2, hostGate, plainPort),
		at(1, hostGate, plainPort), at(2, hostGate, plainPort), at(1, hostBackend, plainPort), at(2, hostBackend, plainPort))
}

// theatre is the cluster of the disasters.
type theatre struct {
	b       *bench
	c       *cluster
	backend map[draas.SiteID]*process
}

// disasters measures what users see.
func (b *bench) disasters(ctx context.Context, dir string, r *Result) error {
	t := &theatre{b: b, backend: make(map[draas.SiteID]*process)}
	for i, site := range []draas.SiteID{"primary", "dr"} {
		p, err := b.nginx(ctx, dir, "backend-"+string(site), at(i+1, hostBackend, plainPort),
			func(home string) string { return backEnd(home, 0, i+1, b.pair) })
		if err != nil {
			return err
		}
		t.backend[site] = p
	}
	if _, err := b.haproxy(ctx, dir, "haproxy-backup", proxyAt(hostBackup, plainPort), haproxyBackup(runtime.NumCPU(), hostBackup)); err != nil {
		return err
	}
	var err error
	if t.c, err = b.startCluster(ctx, dir, movingFile(), "edge"); err != nil {
		return err
	}
	defer t.c.close()
	if _, err := t.c.await(ctx, "the members see each other", gathered); err != nil {
		return err
	}
	if err := t.c.activate(ctx, string(moving)); err != nil {
		return err
	}
	if _, err := t.c.frontend("edge"); err != nil {
		return err
	}
	if err := answers(ctx, proxyAt(hostOurs, plainPort)); err != nil {
		return err
	}
	for _, event := range []string{eventKilled, eventHangs} {
		if !b.wanted(event) {
			continue
		}
		lines, err := t.lose(ctx, event)
		if err != nil {
			return fmt.Errorf("%s: %w", event, err)
		}
		r.Downtime = append(r.Downtime, lines...)
	}
	if !b.wanted(eventPlanned) {
		return nil
	}
	line, err := t.planned(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", eventPlanned, err)
	}
	r.Downtime = append(r.Downtime, line)
	return nil
}

// story is what the runs of an event say of one proxy.
type story struct {
	line                              DowntimeLine
	stalls, requests, before, changed []float64
}

func (s *story) add(x seen) {
	s.line.Runs++
	s.line.Sent += x.sent
	s.line.Failed += x.failed
	if x.failure != nil && s.line.Failure == "" {
		s.line.Failure = x.failure.Error()
	}
	s.stalls, s.requests, s.before = append(s.stalls, x.stall), append(s.requests, x.p99), append(s.before, x.before)
	s.changed = append(s.changed, x.switched)
}

func (s *story) tell() DowntimeLine {
	l := s.line
	l.Stalls, l.Requests, l.Before, l.Switched = spreadOf(s.stalls), spreadOf(s.requests), spreadOf(s.before), spreadOf(s.changed)
	return l
}

// stamps collects the log's stamps of moves.
type stamps struct{ suspected, decided, released, activated, answered []float64 }

func (s *stamps) add(event time.Time, m failover.Times, switched float64) {
	since := func(at time.Time) float64 {
		if at.IsZero() {
			return 0
		}
		return float64(at.Sub(event)) / float64(time.Millisecond)
	}
	suspected := m.Suspected
	if suspected.IsZero() {
		suspected = m.Failed
	}
	s.suspected, s.decided = append(s.suspected, since(suspected)), append(s.decided, since(m.Decided))
	s.released, s.activated = append(s.released, since(m.Released)), append(s.activated, since(m.Activated))
	s.answered = append(s.answered, switched)
}

func (s *stamps) steps() *Steps {
	return &Steps{spreadOf(s.suspected), spreadOf(s.decided), spreadOf(s.released), spreadOf(s.activated), spreadOf(s.answered)}
}

// clients are the connections of each load beside a disaster.
const clients = 64

// lose loses the primary's back end, again and again, under three loads: by
// our frontend, by HAProxy, and straight to the other site's back end, which
// says what the machine does by itself.
func (t *theatre) lose(ctx context.Context, event string) ([]DowntimeLine, error) {
	names := []string{draasMoves, haMoves, undisturbed}
	addresses := []string{proxyAt(hostOurs, plainPort), proxyAt(hostBackup, plainPort), at(2, hostBackend, plainPort)}
	stories := make([]story, len(names))
	for i := range stories {
		stories[i].line = DowntimeLine{Event: event, Proxy: names[i], Rate: t.b.o.Rate}
	}
	var moves stamps
	first, err := t.c.frontendStatus(ctx, "edge")
	if err != nil {
		return nil, err
	}
	for run := range t.b.o.Runs {
		if err := t.rest(ctx); err != nil {
			return nil, err
		}
		var loads []asker
		for _, a := range addresses {
			loads = append(loads, asker{a, clients, t.b.o.Rate})
		}
		var at time.Time
		found, err := t.under(ctx, loads, func() (err error) {
			at = time.Now()
			if event == eventHangs {
				err = t.backend["primary"].signal(syscall.SIGSTOP)
			} else {
				err = t.backend["primary"].kill()
			}
			if err != nil {
				return err
			}
			_, err = t.c.await(ctx, "the service has moved", func(s *api.Status) string {
				if sv := serviceOf(s, moving); sv.Active != "dr" || sv.Move != nil {
					return fmt.Sprintf("it is %s at %q", sv.Phase, sv.Active)
				}
				return ""
			})
			return err
		})
		if err != nil {
			return nil, err
		}
		for i := range stories {
			from := "1"
			if names[i] == undisturbed {
				from = "2"
			}
			stories[i].add(judge(found[i], at, from))
		}
		last := len(stories[0].stalls) - 1
		if err := t.noteMove(ctx, &moves, at, stories[0].changed[last]); err != nil {
			return nil, err
		}
		t.b.say("%s, run %d of %d: longest wait %.0f ms, HAProxy %.0f ms, undisturbed %.0f ms; failed %d, %d, %d", event, run+1, t.b.o.Runs,
			stories[0].stalls[last], stories[1].stalls[last], stories[2].stalls[last], stories[0].line.Failed, stories[1].line.Failed, stories[2].line.Failed)
		if err := t.mend(ctx); err != nil {
			return nil, err
		}
	}
	stories[0].line.Steps = moves.steps()
	if err := t.count(ctx, first, &stories[0].line); err != nil {
		return nil, err
	}
	var lines []DowntimeLine
	for i := range stories {
		lines = append(lines, stories[i].tell())
	}
	return lines, nil
}

// count takes over what the frontend has counted since an earlier look.
func (t *theatre) count(ctx context.Context, first *api.FrontendStatus, l *DowntimeLine) error {
	last, err := t.c.frontendStatus(ctx, "edge")
	if err != nil {
		return err
	}
	for i, sv := range last.Services {
		l.Held, l.Replayed = l.Held+sv.Held-first.Services[i].Held, l.Replayed+sv.Replayed-first.Services[i].Replayed
	}
	return nil
}

// noteMove notes the stamps of the move that was made last.
func (t *theatre) noteMove(ctx context.Context, moves *stamps, event time.Time, switched float64) error {
	s, err := t.c.client.Status(ctx, true)
	if err != nil {
		return err
	}
	last := serviceOf(s, moving).Last
	if last == nil {
		return fmt.Errorf("no move is known")
	}
	moves.add(event, last.Times, switched)
	return nil
}

// rest waits until the service is at the primary site and everybody sees it
// well.
func (t *theatre) rest(ctx context.Context) error {
	_, err := t.c.await(ctx, "the cluster is calm", calm(moving, "primary"))
	return err
}

// mend starts the primary's back end again and brings the service home.
func (t *theatre) mend(ctx context.Context) error {
	p := t.backend["primary"]
	if err := p.kill(); err != nil {
		return err
	}
	next, err := t.b.crew.start(p.name, p.argv...)
	if err != nil {
		return err
	}
	t.backend["primary"] = next
	if err := until(ctx, "the back end is back", func() bool { return listens(at(1, hostBackend, plainPort)) }); err != nil {
		return err
	}
	if err := t.c.move(ctx, failover.MoveFailback, moving, ""); err != nil {
		return err
	}
	if err := t.rest(ctx); err != nil {
		return err
	}
	return t.c.acknowledge(ctx, moving)
}

// Before an event loads run for settle and up to jitter more, so that it comes
// at no particular time of anybody's interval; after it they run for calmed.
const (
	settle = 700 * time.Millisecond
	jitter = 300 * time.Millisecond
	calmed = 700 * time.Millisecond
)

// under lets an event happen under loads, and gives what they saw.
func (t *theatre) under(ctx context.Context, loads []asker, event func() error) ([][]sample, error) {
	found := make([][]sample, len(loads))
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i, l := range loads {
		all.Go(func() { found[i] = l.run(ctx, stop) })
	}
	err := rounds.Pause(ctx, settle+rand.N(jitter))
	if err == nil {
		err = event()
	}
	if err == nil {
		err = rounds.Pause(ctx, calmed)
	}
	close(stop)
	all.Wait()
	return found, err
}

// planned moves the service there and back under much load, at an operator's
// word.
func (t *theatre) planned(ctx context.Context) (DowntimeLine, error) {
	if err := t.rest(ctx); err != nil {
		return DowntimeLine{}, err
	}
	// What this machine can do with this load, this way to the back end, and
	// everything else that runs here.
	var capacity []float64
	for range 3 {
		const span = 2 * time.Second
		stop := make(chan struct{})
		timer := time.AfterFunc(span, func() { close(stop) })
		n := len(asker{address: proxyAt(hostOurs, plainPort), clients: clients}.run(ctx, stop))
		timer.Stop()
		capacity = append(capacity, float64(n)/span.Seconds())
	}
	rate := int(t.b.o.Capacity * rounds.Percentile(capacity, 50))
	t.b.say("%s: capacity %.0f requests a second, load %d", eventPlanned, rounds.Percentile(capacity, 50), rate)
	s := story{line: DowntimeLine{Event: eventPlanned, Proxy: draasMoves, Rate: rate}}
	var moves stamps
	first, err := t.c.frontendStatus(ctx, "edge")
	if err != nil {
		return s.line, err
	}
	for run := range t.b.o.Runs {
		from, to, kind := draas.SiteID("primary"), draas.SiteID("dr"), failover.MoveSwitchover
		if run%2 == 1 {
			from, to, kind = to, from, failover.MoveFailback
		}
		if _, err := t.c.await(ctx, "the cluster is calm", calm(moving, from)); err != nil {
			return s.line, err
		}
		var at time.Time
		found, err := t.under(ctx, []asker{{proxyAt(hostOurs, plainPort), clients, rate}}, func() error {
			at = time.Now()
			if err := t.c.move(ctx, kind, moving, to); err != nil {
				return err
			}
			_, err := t.c.await(ctx, "the service has moved", func(s *api.Status) string {
				if sv := serviceOf(s, moving); sv.Active != to || sv.Move != nil {
					return fmt.Sprintf("it is %s at %q", sv.Phase, sv.Active)
				}
				return ""
			})
			return err
		})
		if err != nil {
			return s.line, err
		}
		x := judge(found[0], at, map[draas.SiteID]string{"primary": "1", "dr": "2"}[from])
		s.add(x)
		if err := t.noteMove(ctx, &moves, at, x.switched); err != nil {
			return s.line, err
		}
		t.b.say("%s, run %d of %d: longest wait %.0f ms, before it %.0f ms; failed %d", eventPlanned, run+1, t.b.o.Runs, x.stall, x.before, x.failed)
	}
	s.line.Steps = moves.steps()
	if err := t.count(ctx, first, &s.line); err != nil {
		return s.line, err
	}
	return s.tell(), nil
}
