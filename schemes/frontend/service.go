package frontend

import (
	"sync"
	"sync/atomic"

	"github.com/draasd/draas"
)

// Service is one service of a frontend.
type Service struct {
	ID    draas.ServiceID
	Stats Stats

	table *Table
	spec  atomic.Pointer[Spec]
	lead  atomic.Pointer[lead]
	held  held
	born  draas.Reading

	mu    sync.Mutex // of changes of lead, and of conns
	gone  bool
	conns map[*Conn]struct{}
}

// lead is one state of the decision on a service. All but the deadline is
// fixed; changed is closed when another lead takes its place.
type lead struct {
	Decision
	since    draas.Reading
	deadline atomic.Pointer[draas.Deadline]
	lapsed   atomic.Pointer[draas.Reading] // when that was seen, and its connections were dropped
	flights  *atomic.Int64
	changed  chan struct{}
}

// Where is what is done with a request now. It is a value of the moment: a
// request that goes by it enters with it.
type Where struct {
	State  State
	Reason string // why it is not open
	Site   draas.SiteID
	Epoch  draas.Epoch
	// Changed is closed when another decision has come.
	Changed <-chan struct{}

	lead *lead
}

func newService(t *Table, spec Spec) *Service {
	s := &Service{ID: spec.Service, table: t, born: t.cfg.Clock(), conns: make(map[*Conn]struct{})}
	s.spec.Store(&spec)
	l := &lead{since: s.born, flights: new(atomic.Int64), changed: make(chan struct{})}
	l.deadline.Store(&draas.Deadline{})
	s.lead.Store(l)
	return s
}

// Table is the one that the service stands in.
func (s *Service) Table() *Table { return s.table }

// Spec is the service as the file has it. It must not be changed.
func (s *Service) Spec() *Spec { return s.spec.Load() }

// Where says what is done with a request now.
func (s *Service) Where() Where {
	l := s.lead.Load()
	w := Where{Site: l.Site, Epoch: l.Epoch, Changed: l.changed, lead: l}
	w.State, w.Reason = s.judge(l)
	return w
}

func (s *Service) judge(l *lead) (State, string) {
	spec := s.spec.Load()
	switch {
	case l.Moving || l.Released:
		return Wait, ReasonMoving
	case l.Epoch == 0 || l.Site == "":
		reason := ReasonNobody
		if l.since == s.born {
			reason = ReasonPassive
		}
		return s.patient(draas.DeadlineAt(l.since, 0), spec), reason
	case spec.Outlives:
		return Open, ""
	}
	if l.deadline.Load().Passed(s.table.cfg.Clock()) {
		// Counted from when it was seen: a process that stood still has not had
		// the time to ask.
		if seen := l.lapsed.Load(); seen != nil {
			return s.patient(draas.DeadlineAt(*seen, 0), spec), ReasonLapsed
		}
		return Wait, ReasonLapsed
	}
	return Open, ""
}

// patient holds requests for as long after an instant as one may wait: who
// comes later would most likely wait in vain.
func (s *Service) patient(since draas.Deadline, spec *Spec) State {
	until := draas.Deadline{Boot: since.Boot + spec.Hold.Time, Wall: since.Wall + spec.Hold.Time}
	if until.Passed(s.table.cfg.Clock()) {
		return Shut
	}
	return Wait
}

// Enter begins a request, or a connection, that goes by where. It fails when
// that is no longer the last word: ask again. Whoever entered leaves.
func (s *Service) Enter(w Where) bool {
	if w.State != Open {
		return false
	}
	w.lead.flights.Add(1)
	if s.lead.Load() != w.lead {
		s.Leave(w)
		return false
	}
	return true
}

// Leave ends what Enter began.
func (s *Service) Leave(w Where) {
	if w.lead.flights.Add(-1) == 0 && s.lead.Load().Moving {
		s.table.Nudge()
	}
}

// Current reports whether a request that entered with w still goes by the
// last word, or at the least to the site that is active, under a permit that
// has not ended: its answer may be handed on.
func (s *Service) Current(w Where) bool {
	l := s.lead.Load()
	if l != w.lead && l.Site != w.Site {
		return false
	}
	return s.spec.Load().Outlives || !l.deadline.Load().Passed(s.table.cfg.Clock())
}

// Failed takes what was seen of the back end that w leads to: it is counted,
// and the members are asked to look.
func (s *Service) Failed(w Where, c Class) {
	s.Stats.Site(w.Site).Errors[c].Add(1)
	if s.table.cfg.Tell != nil && s.lead.Load().Epoch == w.Epoch {
		s.table.cfg.Tell(Evidence{Service: s.ID, Site: w.Site, Epoch: w.Epoch, Class: c})
	}
}

func (s *Service) apply(asked draas.Reading, d Decision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lead.Load()
	switch {
	case s.gone:
		return nil
	case d.Epoch < l.Epoch:
		return draas.ErrStaleEpoch
	case d.Epoch == l.Epoch && d.Site != l.Site:
		return ErrContradiction
	case d.Epoch == l.Epoch:
		s.extend(l, asked, d)
		// Revoked and released are terminal: a member that does not say so
		// has not heard of it.
		d.Moving, d.Released = d.Moving || l.Moving, d.Released || l.Released
		if d.Moving == l.Moving && d.Released == l.Released && (l.Epoch != 0 || l.since != s.born) {
			return nil
		}
	}
	s.replace(l, d, asked)
	return nil
}

// extend moves a permit's end, never to an earlier time.
func (s *Service) extend(l *lead, asked draas.Reading, d Decision) {
	was, next := *l.deadline.Load(), draas.DeadlineAt(asked, d.Permit)
	if next.Boot <= was.Boot && next.Wall <= was.Wall {
		return
	}
	l.deadline.Store(&draas.Deadline{Boot: max(was.Boot, next.Boot), Wall: max(was.Wall, next.Wall)})
	if now := s.table.cfg.Clock(); was.Passed(now) && !next.Passed(now) {
		s.replace(l, l.Decision, asked) // those who wait are told
	}
}

// replace puts another lead in the place of one, and drops what it leaves
// behind. s.mu is held.
func (s *Service) replace(l *lead, d Decision, asked draas.Reading) {
	if s.lead.Load() != l {
		return // extend has replaced it
	}
	now := s.table.cfg.Clock()
	next := &lead{Decision: d, since: now, flights: l.flights, changed: make(chan struct{})}
	deadline := *l.deadline.Load()
	if d.Epoch != l.Epoch {
		next.flights = new(atomic.Int64)
		deadline = draas.DeadlineAt(asked, d.Permit)
	}
	next.deadline.Store(&deadline)
	s.lead.Store(next)
	close(l.changed)
	switch {
	case d.Released:
		s.drop(func(*Conn) bool { return true })
	case d.Site != l.Site:
		s.drop(func(c *Conn) bool { return c.site != d.Site })
	}
	if d.Epoch != l.Epoch || d.Moving != l.Moving {
		s.table.cfg.Log.Info("led by another decision", "service", s.ID, "epoch", d.Epoch, "site", d.Site, "moving", d.Moving)
	}
	s.table.Nudge()
}

// lapse drops the connections of a permit that has ended.
func (s *Service) lapse(now draas.Reading) {
	l := s.lead.Load()
	if l.Epoch == 0 || l.lapsed.Load() != nil || s.spec.Load().Outlives || !l.deadline.Load().Passed(now) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lead.Load() != l || !l.deadline.Load().Passed(now) || !l.lapsed.CompareAndSwap(nil, &now) {
		return
	}
	s.drop(func(*Conn) bool { return true })
	if !l.Moving {
		s.table.cfg.Log.Warn("no member was heard for too long: nobody is led anywhere", "service", s.ID, "epoch", l.Epoch, "site", l.Site)
	}
	s.table.Nudge()
}

// retire shuts a service that the file has no more.
func (s *Service) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lead.Load()
	next := &lead{Decision: Decision{Epoch: l.Epoch}, since: draas.Reading{}, flights: l.flights, changed: make(chan struct{})}
	next.deadline.Store(&draas.Deadline{})
	s.gone = true
	s.lead.Store(next)
	close(l.changed)
	s.drop(func(*Conn) bool { return true })
}

// Until is when the permit ends that the service is led by.
func (s *Service) Until() draas.Deadline { return *s.lead.Load().deadline.Load() }

func (s *Service) report() Report {
	w := s.Where()
	return Report{Service: s.ID, Epoch: w.Epoch, Site: w.Site, State: w.State, Reason: w.Reason,
		Flights: w.lead.flights.Load(), Held: s.held.requests.Load()}
}

// Conn is a connection to a back end of a site, that ends when the site is no
// longer the one to lead to.
type Conn struct {
	service *Service
	site    draas.SiteID
	end     func()
}

// Attach registers a connection to a back end of w's site. It fails when
// another site is active by now. end is called at most once, when the
// connection has to go: it must not block, and may come before Attach
// returns.
func (s *Service) Attach(w Where, end func()) (*Conn, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lead.Load(); s.gone || l.Site != w.Site || l.Released || l.lapsed.Load() != nil {
		return nil, false
	}
	c := &Conn{s, w.Site, end}
	s.conns[c] = struct{}{}
	return c, true
}

// Detach forgets a connection that has ended by itself.
func (c *Conn) Detach() {
	c.service.mu.Lock()
	defer c.service.mu.Unlock()
	delete(c.service.conns, c)
}

// drop ends the connections that leave names. s.mu is held.
func (s *Service) drop(leave func(*Conn) bool) {
	for c := range s.conns {
		if leave(c) {
			delete(s.conns, c)
			s.Stats.Dropped.Add(1)
			c.end()
		}
	}
}
