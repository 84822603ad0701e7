package edge

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/schemes/vip"
	"github.com/draasd/draas/schemes/vip/lan"
)

// lanTest is three members and some frontends in a bubble of time.
type lanTest struct {
	t       *testing.T
	start   time.Time
	members []*vipMember
	mu      sync.Mutex
	hosts   map[string]*fakeHost
	doubles int
}

// vipMember grants as a daemon does.
type vipMember struct {
	l    *lanTest
	mu   sync.Mutex
	id   uint64
	g    *vip.Grants
	down bool
	cut  map[string]bool // frontends that do not reach it
	gave map[string]int  // grants, by frontend
}

const testLease = 300 * time.Millisecond

func newLANTest(t *testing.T) *lanTest {
	l := &lanTest{t: t, start: time.Now(), hosts: make(map[string]*fakeHost)}
	for id := range uint64(3) {
		m := &vipMember{l: l, id: id + 1, cut: make(map[string]bool), gave: make(map[string]int)}
		m.restart()
		l.members = append(l.members, m)
	}
	time.Sleep(4 * time.Second)
	return l
}

func (l *lanTest) clock() draas.Reading {
	since := time.Since(l.start)
	return draas.Reading{Boot: time.Hour + since, Wall: 9000*time.Hour + since}
}

func (m *vipMember) restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.l.clock()
	m.g = vip.NewGrants(now, config.Drift)
	m.g.Use(map[string]vip.Terms{"web": {Lease: draas.Lease{Length: testLease, Drift: config.Drift}, Holders: []string{"a", "b"}}})
	m.g.Stand(vip.Standing{Self: m.id, Electorate: vip.Electorate{Voters: []uint64{1, 2, 3}}, Applied: 1, Contact: now.Boot + time.Hour}, now)
}

func (m *vipMember) ask(h api.Hold) (*api.Granted, <-chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down || m.cut[h.Frontend] {
		return nil, nil, errors.New("connection refused")
	}
	a := m.g.Ask(vip.Ask{VIP: h.VIP, Frontend: h.Frontend, Session: h.Session, Seq: h.Seq, Want: h.Want}, m.l.clock())
	if a.Granted {
		m.gave[h.Frontend]++
	}
	return &api.Granted{Member: a.Member, Granted: a.Granted, Lease: a.Lease, Holder: a.Holder, Left: a.Left, Voters: a.Electorate.Voters, Applied: a.Applied,
		Stations: map[string][]string{"c": {"02:00:00:00:00:0c"}}}, m.g.News(), nil
}

func (m *vipMember) Hold(ctx context.Context, h api.Hold) (*api.Granted, error) {
	const oneWay = time.Millisecond
	time.Sleep(oneWay)
	start := time.Now()
	for {
		g, news, err := m.ask(h)
		if err != nil {
			return nil, err
		}
		if g.Waited = time.Since(start); g.Granted || !h.Want || g.Left <= 0 || g.Waited >= time.Duration(h.WaitMS)*time.Millisecond {
			time.Sleep(oneWay)
			return g, ctx.Err()
		}
		select {
		case <-news:
		case <-time.After(min(g.Left, time.Duration(h.WaitMS)*time.Millisecond-g.Waited)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// fakeHost is a host's network.
type fakeHost struct {
	l      *lanTest
	name   string
	events chan lan.Event

	mu    sync.Mutex
	open  draas.Deadline // its fence, whatever the process does
	fit   error
	take  error
	calls []string
}

func (h *fakeHost) note(call string) {
	h.calls = append(h.calls, call)
}

func (h *fakeHost) Fit() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fit
}

func (h *fakeHost) Take(_ context.Context, until draas.Deadline) error {
	h.l.alone(h)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note("take")
	if h.take != nil {
		return h.take
	}
	h.open = until
	return nil
}

func (h *fakeHost) Extend(until draas.Deadline) error {
	h.l.alone(h)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open.Passed(h.l.clock()) {
		return lan.ErrNotHeld
	}
	h.open = until
	return nil
}

func (h *fakeHost) Drop() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note("drop")
	h.open = draas.Deadline{}
	return nil
}

func (h *fakeHost) Events() <-chan lan.Event { return h.events }
func (h *fakeHost) Status() lan.Status       { return lan.Status{} }
func (h *fakeHost) Close() error             { return nil }

// did is what it was told to do so far.
func (h *fakeHost) did() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

func (h *fakeHost) has() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.open.Passed(h.l.clock())
}

// alone counts it when another host's fence is open.
func (l *lanTest) alone(h *fakeHost) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.hosts {
		if other != h && other.has() {
			l.doubles++
		}
	}
}

// run starts a frontend; stop ends it in order.
func (l *lanTest) run(name string) (k *keeper, h *fakeHost, stop func()) {
	h = &fakeHost{l: l, name: name, events: make(chan lan.Event, 4)}
	l.mu.Lock()
	l.hosts[name] = h
	l.mu.Unlock()
	members := make(map[draas.MemberID]granter)
	for _, m := range l.members {
		members[draas.MemberID(string(rune('0'+m.id)))] = m
	}
	v := config.VIP{ID: "web", Holders: []string{"a", "b"}, Lease: draas.Lease{Length: testLease, Drift: config.Drift, Margin: 20 * time.Millisecond}}
	k = newKeeper(v, name, l.clock, slog.New(slog.DiscardHandler), members, func(*keeper) (addresses, error) { return h, nil })
	ctx, cancel := context.WithCancel(l.t.Context())
	ended := make(chan struct{})
	go func() { k.run(ctx); close(ended) }()
	return k, h, func() { cancel(); <-ended }
}

// within waits for at the most so long, and tells how long it took.
func within(limit time.Duration, is func() bool) (time.Duration, bool) {
	start := time.Now()
	for time.Since(start) < limit {
		if is() {
			return time.Since(start), true
		}
		time.Sleep(time.Millisecond)
	}
	return limit, false
}

func bubble(t *testing.T, test func(t *testing.T, l *lanTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLANTest(t)
		test(t, l)
		if l.doubles > 0 {
			t.Errorf("two had it, seen %d times", l.doubles)
		}
	})
}

// TestKeeperTakesOver: a frontend that ends in order is followed at once, one
// that is gone when its lease is over, and a member less makes no difference.
func TestKeeperTakesOver(t *testing.T) {
	for name, x := range map[string]struct {
		lose  func(*lanTest, func())
		limit time.Duration
	}{
		"ends":             {func(_ *lanTest, stop func()) { stop() }, 20 * time.Millisecond},
		"cut off":          {func(l *lanTest, _ func()) { l.cut("a") }, 345 * time.Millisecond},
		"and a member too": {func(l *lanTest, _ func()) { l.cut("a"); l.members[1].set(func(m *vipMember) { m.down = true }) }, 345 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, l *lanTest) {
				_, a, stopA := l.run("a")
				if took, ok := within(time.Second, a.has); !ok || took > 10*time.Millisecond {
					t.Fatalf("a took it after %v, %v", took, ok)
				}
				_, b, stopB := l.run("b")
				time.Sleep(3 * time.Second)
				if !a.has() || len(a.did()) != 1 || b.has() || len(b.did()) > 0 {
					t.Fatalf("not quiet: a %v, b %v", a.did(), b.did())
				}
				x.lose(l, stopA)
				took, ok := within(time.Second, b.has)
				if !ok || took > x.limit {
					t.Errorf("b took over after %v, %v", took, ok)
				}
				stopA()
				stopB()
				if a.has() || b.has() {
					t.Error("somebody has it still")
				}
			})
		})
	}
}

func (l *lanTest) cut(frontend string) {
	for _, m := range l.members {
		m.set(func(m *vipMember) { m.cut[frontend] = true })
	}
}

func (m *vipMember) set(f func(*vipMember)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

// TestKeeperMembersRestart: who has it keeps it while the members are started
// anew one after the other, and the one that waits leaves it the grants.
func TestKeeperMembersRestart(t *testing.T) {
	bubble(t, func(t *testing.T, l *lanTest) {
		_, a, stopA := l.run("a")
		within(time.Second, a.has)
		_, b, stopB := l.run("b")
		time.Sleep(2 * time.Second)
		for _, m := range l.members {
			m.restart()
			time.Sleep(5 * time.Second)
			m.set(func(m *vipMember) {
				if m.gave["b"] > 0 {
					t.Errorf("member %d, just started, gave b its grant %d times, while a has those of the others", m.id, m.gave["b"])
				}
			})
		}
		if !slices.Equal(a.did(), []string{"take"}) || len(b.did()) > 0 {
			t.Errorf("it moved: a %v, b %v", a.did(), b.did())
		}
		stopB()
		stopA()
	})
}

// TestKeeperNobody: with a majority of the members gone nobody has it, and it
// comes back with them.
func TestKeeperNobody(t *testing.T) {
	bubble(t, func(t *testing.T, l *lanTest) {
		_, a, stopA := l.run("a")
		_, b, stopB := l.run("b")
		within(time.Second, func() bool { return a.has() || b.has() })
		for _, m := range l.members[:2] {
			m.set(func(m *vipMember) { m.down = true })
		}
		if took, ok := within(time.Second, func() bool { return !a.has() && !b.has() }); !ok || took > testLease {
			t.Errorf("given up after %v, %v", took, ok)
		}
		time.Sleep(10 * time.Second)
		if a.has() || b.has() {
			t.Error("taken by the grant of one of three")
		}
		l.members[0].set(func(m *vipMember) { m.down = false })
		if took, ok := within(2*time.Second, func() bool { return a.has() || b.has() }); !ok {
			t.Errorf("not back after %v", took)
		}
		stopA()
		stopB()
	})
}

// TestKeeperUnfit: a host that cannot have it leaves it to the other, and says
// why.
func TestKeeperUnfit(t *testing.T) {
	bubble(t, func(t *testing.T, l *lanTest) {
		ka, a, stopA := l.run("a")
		within(time.Second, a.has)
		_, b, stopB := l.run("b")
		time.Sleep(time.Second)
		a.mu.Lock()
		a.fit = errors.New("interface eth0 has no carrier")
		a.mu.Unlock()
		a.events <- lan.Event{Kind: lan.LinkDown, Interface: "eth0", Text: "interface eth0 is down"}
		if took, ok := within(time.Second, b.has); !ok || took > 20*time.Millisecond {
			t.Errorf("b took over after %v, %v", took, ok)
		}
		time.Sleep(3 * time.Second)
		if s := ka.status(); s.Has || !strings.Contains(s.Trouble, "no carrier") || s.Holder != "b" {
			t.Errorf("a says %+v", s)
		}
		a.mu.Lock()
		a.fit = nil
		a.mu.Unlock()
		time.Sleep(3 * time.Second)
		if a.has() || !b.has() {
			t.Error("it went back by itself")
		}
		stopB()
		if took, ok := within(time.Second, a.has); !ok || took > 20*time.Millisecond {
			t.Errorf("a has it back after %v, %v", took, ok)
		}
		stopA()
	})
}

// TestKeeperCannotTake: what cannot be set is left to the other.
func TestKeeperCannotTake(t *testing.T) {
	bubble(t, func(t *testing.T, l *lanTest) {
		ka, a, stopA := l.run("a")
		a.mu.Lock()
		a.take = errors.New("set 192.0.2.80 on eth0: operation not permitted")
		a.mu.Unlock()
		time.Sleep(time.Second)
		_, b, stopB := l.run("b")
		if took, ok := within(2*time.Second, b.has); !ok || took > time.Second {
			t.Errorf("b has it after %v, %v", took, ok)
		}
		if s := ka.status(); !strings.Contains(s.Trouble, "operation not permitted") {
			t.Errorf("a says %+v", s)
		}
		if n := len(a.did()); n > 16 {
			t.Errorf("a tried %d times in a second", n)
		}
		time.Sleep(10 * time.Second)
		stopB()
		was := len(a.did())
		time.Sleep(10 * time.Second)
		if n := len(a.did()) - was; n == 0 || n > 12 {
			t.Errorf("a, alone, tried %d times in 10 s", n)
		}
		stopA()
	})
}

// TestKeeperYields: it is handed over when somebody asks, and taken back when
// nobody takes it.
func TestKeeperYields(t *testing.T) {
	bubble(t, func(t *testing.T, l *lanTest) {
		ka, a, stopA := l.run("a")
		within(time.Second, a.has)
		kb, b, stopB := l.run("b")
		time.Sleep(time.Second)
		if _, err := kb.yield(t.Context()); err == nil {
			t.Error("b gave up what it does not have")
		}
		start := time.Now()
		to, err := ka.yield(t.Context())
		if err != nil || to != "b" || !b.has() || a.has() || time.Since(start) > time.Second {
			t.Errorf("to %q after %v, %v", to, time.Since(start), err)
		}
		stopA()
		time.Sleep(5 * time.Second)
		to, err = kb.yield(t.Context())
		if err != nil || to != "" || !b.has() {
			t.Errorf("nobody was there: to %q, %v", to, err)
		}
		stopB()
	})
}

func TestKeeperKnowsFriends(t *testing.T) {
	bubble(t, func(t *testing.T, l *lanTest) {
		k, a, stop := l.run("a")
		within(time.Second, a.has)
		if f := k.friends(); len(f) != 1 || f[0].Name != "c" || f[0].MAC.String() != "02:00:00:00:00:0c" {
			t.Errorf("friends %v", f)
		}
		stop()
	})
}
