package lan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/draasd/draas"
)

// Host is one virtual IP on this host. Its methods may be called by several
// goroutines.
type Host struct {
	cfg    Config
	log    *slog.Logger
	events chan Event
	heard  chan hearing                 // by the ears, for the keeper
	asked  atomic.Pointer[chan hearing] // by the ears, for a question that is open
	wake   chan struct{}                // the keeper has to look at its times again
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex // what follows
	closed bool
	// patience is how long Take waits for answers: probeWait.
	patience time.Duration
	fence    *fence
	router   *router
	seen     interfaces // as of the last look
	ports    map[int]*port
	places   []*place
	held     bool
	until    draas.Deadline
	question question      // before the addresses were taken last
	round    int           // of announcements, or of probes while not held
	next     time.Duration // boot clock, when it is due
	broken   error         // the fence's rules could not be restored
}

// place is one of the addresses.
type place struct {
	Address
	index     int           // of the interface it was put on; 0: of none yet
	state     linkState     // of that interface, as it was last told of
	repaired  time.Duration // boot clocks; 0: never
	mending   bool          // it is to be put back
	here      bool          // of a foreign one: it was there when last looked at
	announced time.Duration
	defended  time.Duration
	rival     net.HardwareAddr // who else has it: for whom it was not taken, or was seen while held
	rivalSeen time.Duration
	told      time.Duration // of the rival
}

// linkState is what an interface's events are made from.
type linkState struct {
	index int // 0: there is none
	name  string
	up    bool
	mac   string
}

// question is when was asked who has the addresses: by the wall clock, as frames
// are stamped, and by the boot clock.
type question struct{ wall, boot time.Duration }

// hearing is a sight of one of the addresses.
type hearing struct {
	place *place
	sight
	came time.Duration // wall clock of the frame
}

// Open prepares the host: the fence is shut, and addresses that an earlier run
// left on the interfaces are removed. It is an error if the fence cannot be
// written; an interface that is not there is not, Fit tells.
func Open(cfg Config) (*Host, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("open virtual IP %q: %w", cfg.Name, err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h := &Host{cfg: cfg, log: cfg.Log.With("vip", cfg.Name), events: make(chan Event, 64), heard: make(chan hearing, 64),
		wake: make(chan struct{}, 1), patience: probeWait, router: &router{}, ports: make(map[int]*port)}
	var addrs []netip.Addr
	for _, a := range cfg.Addresses {
		h.places = append(h.places, &place{Address: a})
		addrs = append(addrs, a.Prefix.Addr())
	}
	h.fence = newFence(cfg.Name, addrs, cfg.Clock)
	h.mu.Lock()
	defer h.mu.Unlock()
	err := h.drop()
	if err == nil {
		err = h.listen()
	}
	if err != nil {
		for _, p := range h.ports {
			p.close()
		}
		h.wg.Wait()
		h.fence.letGo()
		h.router.letGo()
		return nil, fmt.Errorf("open virtual IP %s: %w", cfg.Name, err)
	}
	for _, p := range h.places {
		p.state = h.state(p)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	h.wg.Go(func() { h.keep(ctx) })
	h.wg.Go(func() { h.persist(ctx, func() error { return watchLinks(ctx, h.linksChanged) }) })
	h.wg.Go(func() { h.persist(ctx, func() error { return h.fence.rules.watch(ctx, h.rulesChanged) }) })
	return h, nil
}

// Close drops the addresses, takes the fence away and ends the Host. After a
// kill nobody does that: the fence stays, shut.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	err := h.drop()
	h.cancel()
	for _, p := range h.ports {
		p.close()
	}
	h.mu.Unlock()
	h.wg.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil { // else an address may have stayed
		err = explain(h.fence.remove())
	}
	h.fence.letGo()
	h.router.letGo()
	close(h.events)
	return wrap("close virtual IP "+h.cfg.Name, err)
}

// Events tells what happened. It is closed by Close. Each event has been logged;
// of those that nobody takes the latest 64 are kept.
func (h *Host) Events() <-chan Event { return h.events }

// Take takes the addresses, all or none: it asks the networks whether a stranger
// has one (then ConflictError, and nothing was added), opens the fence until the
// deadline, adds and announces them. Taking what is held is Extend. The error is
// draas.ErrExpired when the deadline passed meanwhile. Within a call that
// returned an error other than ConflictError packets may have passed the fence
// until the deadline; afterwards none do.
func (h *Host) Take(ctx context.Context, until draas.Deadline) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("take virtual IP %s: %w", h.cfg.Name, ErrNotHeld)
	}
	if h.held {
		return h.extend(until)
	}
	if err := h.look(); err != nil {
		return fmt.Errorf("take virtual IP %s: %w", h.cfg.Name, err)
	}
	err := h.take(ctx, until)
	if err == nil {
		h.restart()
		h.next += h.speak()
		h.nudge()
		return nil
	}
	if !errors.As(err, new(*ConflictError)) {
		err = errors.Join(err, h.drop())
	}
	for _, p := range h.places {
		p.index = 0
	}
	h.restart()
	h.nudge()
	return fmt.Errorf("take virtual IP %s: %w", h.cfg.Name, err)
}

func (h *Host) take(ctx context.Context, until draas.Deadline) error {
	for _, p := range h.places {
		if err := h.ready(p.Address); err != nil {
			return err
		}
		p.index = h.seen.links[p.Interface].index
		p.announced, p.mending, p.here, p.repaired, p.defended, p.told = 0, false, false, 0, 0, 0
	}
	if err := h.listen(); err != nil {
		return err
	}
	if err := h.ask(ctx); err != nil {
		return err
	}
	if err := h.fence.open(until); err != nil {
		return explain(err)
	}
	h.broken = nil
	if !h.cfg.Foreign {
		if err := h.add(ctx, until); err != nil {
			return err
		}
	}
	if until.Passed(h.cfg.Clock()) {
		return draas.ErrExpired
	}
	h.held, h.until = true, until
	for _, p := range h.places {
		p.state, p.rival = h.state(p), nil
	}
	return nil
}

// add puts the addresses on their interfaces and sees that they are there.
func (h *Host) add(ctx context.Context, until draas.Deadline) error {
	for _, p := range h.places {
		if err := h.put(p); err != nil {
			return err
		}
	}
	if err := h.settle(ctx, until); err != nil {
		return err
	}
	if err := h.look(); err != nil {
		return err
	}
	for _, p := range h.places {
		if !h.seen.has(p.index, p.Prefix.Addr()) {
			return fmt.Errorf("address %s was added and is not there", p.Address)
		}
	}
	return nil
}

func (h *Host) put(p *place) error {
	at := placed{index: p.index, addr: p.Prefix}
	return explain(h.router.add(at, h.seen.covers(p.index, p.Prefix)))
}

// settle waits until the host takes packets to the addresses for its own.
func (h *Host) settle(ctx context.Context, until draas.Deadline) error {
	again := time.NewTicker(settleEvery)
	defer again.Stop()
	for _, p := range h.places {
		for {
			works, err := h.router.works(placed{index: p.index, addr: p.Prefix})
			if err != nil {
				return explain(err)
			}
			if works {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("address %s was added and does not work: %w", p.Address, ctx.Err())
			case <-again.C:
				if until.Passed(h.cfg.Clock()) {
					return fmt.Errorf("address %s was added and does not work: %w", p.Address, draas.ErrExpired)
				}
			}
		}
	}
	return nil
}

// ask asks the networks who has the addresses, and waits for answers. A stranger
// is a ConflictError; a friend is told of.
func (h *Host) ask(ctx context.Context) error {
	answers := make(chan hearing, 64)
	h.asked.Store(&answers)
	defer h.asked.Store(nil)
	h.question = question{wall: time.Duration(time.Now().UnixNano()), boot: h.cfg.Clock().Boot}
	if err := h.probe(); err != nil {
		return err
	}
	timer := time.NewTimer(h.patience)
	defer timer.Stop()
	for over := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-answers:
			if err := h.judge(s); err != nil {
				return err
			}
			continue
		default:
		}
		if over { // and everything that was heard by then has been judged
			return nil
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
			over = true
		case s := <-answers:
			if err := h.judge(s); err != nil {
				return err
			}
		}
	}
}

// judge is what becomes of a sight of an address before it is taken. What was
// there before the question is no answer: the holder before may have said it.
func (h *Host) judge(s hearing) error {
	if s.came < h.question.wall {
		return nil
	}
	friend, known := h.friend(s.mac)
	switch {
	case h.seen.ours(s.mac):
	case known && !s.probing:
		h.tell(Event{Kind: Stale, Interface: s.place.Interface, Addr: s.addr, Text: fmt.Sprintf(
			"frontend %s (%s) still answers for %s after its lease: the address is taken over", friend, s.mac, s.place.Address)})
	case !known:
		s.place.rival, s.place.rivalSeen = s.mac, h.cfg.Clock().Boot
		return &ConflictError{Address: s.place.Address, MAC: s.mac}
	}
	return nil
}

func (h *Host) friend(mac net.HardwareAddr) (string, bool) {
	if h.cfg.Friends == nil {
		return "", false
	}
	for _, f := range h.cfg.Friends() {
		if bytes.Equal(f.MAC, mac) {
			return f.Name, true
		}
	}
	return "", false
}

// Extend moves the end of the lease on, never back. ErrNotHeld: the addresses
// are not held, or their lease was over before; draas.ErrExpired: the new
// deadline has passed, too. In both cases they have been dropped. After any
// other error they are held until the old deadline.
func (h *Host) Extend(until draas.Deadline) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return wrap("extend virtual IP "+h.cfg.Name, h.extend(until))
}

func (h *Host) extend(until draas.Deadline) error {
	if !h.held {
		return ErrNotHeld
	}
	if h.until.Passed(h.cfg.Clock()) {
		// Another may have had them since: they have to be taken anew.
		return errors.Join(ErrNotHeld, h.drop())
	}
	if until.Boot <= h.until.Boot || until.Wall <= h.until.Wall {
		return nil
	}
	switch err := h.fence.open(until); {
	case errors.Is(err, draas.ErrExpired):
		return errors.Join(err, h.drop())
	case err != nil:
		return explain(err)
	}
	h.until, h.broken = until, nil
	return nil
}

// Drop shuts the fence, removes the addresses and sees that they are gone.
func (h *Host) Drop() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	return wrap("drop virtual IP "+h.cfg.Name, h.drop())
}

func (h *Host) drop() error {
	errs := []error{explain(h.fence.shut())}
	h.held, h.until = false, draas.Deadline{}
	if err := h.look(); err != nil {
		return errors.Join(append(errs, err)...)
	}
	if !h.cfg.Foreign {
		errs = append(errs, h.remove())
	}
	for _, p := range h.places {
		p.index = 0
	}
	h.restart()
	h.nudge()
	return errors.Join(errs...)
}

// remove takes the addresses off their interfaces and sees that they are gone.
func (h *Host) remove() error {
	var errs []error
	for _, at := range h.standing() {
		errs = append(errs, explain(h.router.remove(at)))
	}
	if err := h.look(); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, at := range h.standing() {
		errs = append(errs, fmt.Errorf("address %s is still there", at.addr.Addr()))
	}
	return errors.Join(errs...)
}

// standing are the addresses that are on their interfaces: those they were put
// on, whatever they are called now, and those of the configuration.
func (h *Host) standing() []placed {
	var found []placed
	for _, at := range h.seen.addrs {
		for _, p := range h.places {
			if at.addr.Addr() == p.Prefix.Addr() && (at.index == p.index || at.index == h.seen.links[p.Interface].index) {
				found = append(found, at)
			}
		}
	}
	return found
}

func (h *Host) look() error {
	seen, err := h.router.look()
	if err != nil {
		return explain(err)
	}
	h.seen = seen
	return nil
}
