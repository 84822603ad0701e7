package lan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// A stranger that has an address makes this host unfit for it until rivalFor
// after it was last heard; meanwhile it is asked every askEvery.
const (
	askEvery = 500 * time.Millisecond
	rivalFor = 5 * askEvery / 2
)

// rounds is when a held address is announced after it was taken, or after any
// doubt: some hosts do not heed what comes right after another change (Linux's
// locktime), and frames are lost. Then every announceEvery.
var rounds = []time.Duration{100 * time.Millisecond, time.Second - 100*time.Millisecond}

// An address of IPv6 works a moment after it was added. settleEvery is how often
// the kernel is asked; settleMax is how long at most for one that is put back.
const (
	settleEvery = 500 * time.Microsecond
	settleMax   = 50 * time.Millisecond
)

// watchAgain is how long to wait before a watch that failed is tried again.
const watchAgain = time.Second

// keep announces what is held, and asks who has what is not; drops what nobody
// renewed; and hears what the ears do.
func (h *Host) keep(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-h.wake:
		case s := <-h.heard:
			h.mu.Lock()
			h.noted(s)
			h.mu.Unlock()
			continue
		}
		h.mu.Lock()
		wait := h.duties()
		h.mu.Unlock()
		timer.Reset(wait)
	}
}

// nudge has the keeper look at its times.
func (h *Host) nudge() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// duties does what is due and returns for how long nothing is.
func (h *Host) duties() time.Duration {
	now := h.cfg.Clock()
	if h.closed {
		return time.Hour
	}
	if h.held && h.until.Passed(now) {
		if err := h.drop(); err != nil {
			h.tell(Event{Kind: Failed, Text: fmt.Sprintf("the lease is over and the addresses could not be dropped; the fence shuts by itself: %v", err)})
		}
		h.tell(Event{Kind: Expired, Text: "the lease is over and was not renewed: the addresses are dropped"})
	}
	wait := announceEvery
	if h.held {
		wait = min(wait, max(h.until.Left(now), time.Millisecond))
		wait = min(wait, h.mend(now))
	}
	if now.Boot >= h.next {
		h.next = now.Boot + h.speak()
	}
	return max(min(wait, h.next-now.Boot), time.Millisecond)
}

// speak sends what is due and returns for how long nothing is: announcements of
// what is held, questions for what a stranger has.
func (h *Host) speak() time.Duration {
	if !h.held {
		if slices.ContainsFunc(h.places, h.contested) {
			_ = h.probe() // what cannot be sent now Take will tell of
			return askEvery
		}
		return announceEvery
	}
	h.announce()
	h.round++
	if h.round <= len(rounds) {
		return rounds[h.round-1]
	}
	return announceEvery
}

// restart begins the rounds anew.
func (h *Host) restart() {
	h.round, h.next = 0, h.cfg.Clock().Boot
}

// announce tells the networks of all addresses.
func (h *Host) announce() {
	for _, p := range h.places {
		h.announceOne(p)
	}
}

func (h *Host) announceOne(p *place) {
	l := h.seen.links[h.nameOf(p)]
	e, err := h.ear(p)
	if err != nil || !l.up {
		return // told of when it happened
	}
	// Nothing of a lease that is over: frames of packet sockets pass by the
	// fence.
	if now := h.cfg.Clock(); !h.held || h.until.Passed(now) || !h.seen.has(p.index, p.Prefix.Addr()) {
		return
	}
	if err := e.send(announcement(p.Prefix.Addr(), l.mac)...); err != nil {
		h.log.Debug("announcement not sent", "address", p.Address, "err", err)
		return
	}
	p.announced = h.cfg.Clock().Boot
}

// probe asks the networks who has the addresses.
func (h *Host) probe() error {
	var errs []error
	for _, p := range h.places {
		l := h.seen.links[h.nameOf(p)]
		e, err := h.ear(p)
		if err == nil && l.up {
			err = e.send(probe(p.Prefix.Addr(), l.mac))
		}
		errs = append(errs, wrap("ask for "+p.Address.String(), err))
	}
	return errors.Join(errs...)
}

// mend puts addresses back that are to be, and returns until when the next may
// be.
func (h *Host) mend(now draas.Reading) time.Duration {
	wait, mended := announceEvery, false
	for _, p := range h.places {
		if !p.mending || !p.state.up {
			continue
		}
		if since := now.Boot - p.repaired; p.repaired != 0 && since < RepairEvery {
			wait = min(wait, RepairEvery-since)
			continue
		}
		p.repaired = now.Boot
		if err := h.put(p); err != nil {
			h.tell(Event{Kind: Failed, Interface: p.Interface, Addr: p.Prefix.Addr(), Text: fmt.Sprintf("address %s cannot be put back: %v", p.Address, err)})
			continue
		}
		p.mending, mended = false, true
	}
	if mended {
		_ = h.settle(context.Background(), draas.DeadlineAt(now, settleMax)) // else a later announcement is the first that helps
		_ = h.look()                                                         // likewise
		h.restart()
		return 0
	}
	return wait
}

// noted is what becomes of a sight of an address while no question is open.
func (h *Host) noted(s hearing) {
	now := h.cfg.Clock()
	friend, known := h.friend(s.mac)
	p := s.place
	if s.probing || h.seen.ours(s.mac) || !h.held && !bytes.Equal(p.rival, s.mac) || h.old(s, now) {
		return
	}
	fresh := !bytes.Equal(p.rival, s.mac) || p.told == 0 || now.Boot-p.told >= defendEvery
	p.rival, p.rivalSeen = bytes.Clone(s.mac), now.Boot
	if !h.held {
		return // Fit tells
	}
	if fresh {
		p.told = now.Boot
		who := "another host"
		if known {
			who = "frontend " + friend
		}
		h.tell(Event{Kind: Conflict, Interface: p.Interface, Addr: s.addr, Text: fmt.Sprintf(
			"%s says that it has %s, with MAC address %s: it is kept, and announced at most every %v", who, p.Address, s.mac, defendEvery)})
	}
	// RFC 5227, section 2.4 (c): once in a while, never again and again.
	if p.defended == 0 || now.Boot-p.defended >= defendEvery {
		p.defended = now.Boot
		h.announceOne(p)
	}
}

// oldNews is for how long after the addresses were taken a sight is held against
// the time of the question. Later a wall clock that was set back must not hide
// anybody.
const oldNews = time.Second

// old reports whether a sight of a held address is of before the question: the
// holder before, or the friend it was taken over from, has said it, and it waited
// for the keeper.
func (h *Host) old(s hearing, now draas.Reading) bool {
	return h.held && s.came < h.question.wall && now.Boot-h.question.boot < oldNews
}

// tell logs an event and hands it on. Of more than fit the oldest are lost.
func (h *Host) tell(e Event) {
	h.log.Warn(e.Text, "event", string(e.Kind), "interface", e.Interface)
	for {
		select {
		case h.events <- e:
			return
		default:
		}
		select {
		case <-h.events:
		default:
		}
	}
}

// persist repeats a watch that fails.
func (h *Host) persist(ctx context.Context, watch func() error) {
	for {
		err := watch()
		if ctx.Err() != nil {
			return
		}
		h.mu.Lock()
		h.tell(Event{Kind: Failed, Text: fmt.Sprintf("changes by others are not seen for a while: %v", err)})
		h.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchAgain):
		}
	}
}

// rulesChanged looks after the fence when nftables says that it was touched.
func (h *Host) rulesChanged() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	whole, err := h.fence.whole()
	if err == nil && whole {
		return
	}
	if err == nil {
		h.fence.installed = nil // what is there is replaced
		if h.held {
			err = h.fence.open(h.until)
		} else {
			err = h.fence.shut()
		}
	}
	if errors.Is(err, draas.ErrExpired) {
		err = nil // shut, as it has to be
	}
	h.broken = nil
	if err != nil {
		h.broken = fmt.Errorf("the fence's rules were changed by others and cannot be restored: %w", explain(err))
		h.tell(Event{Kind: FenceLost, Text: h.broken.Error()})
		return
	}
	h.tell(Event{Kind: FenceLost, Text: "the fence's rules were changed by others; they are restored"})
}
