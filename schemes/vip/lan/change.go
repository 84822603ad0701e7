package lan

import (
	"fmt"
	"time"
)

// nameOf is what the interface of an address is called now.
func (h *Host) nameOf(p *place) string {
	if p.index != 0 {
		for name, l := range h.seen.links {
			if l.index == p.index {
				return name
			}
		}
	}
	return p.Interface
}

// state is how the interface of an address is as of the last look.
func (h *Host) state(p *place) linkState {
	l, ok := h.seen.links[h.nameOf(p)]
	if !ok || p.index != 0 && l.index != p.index {
		return linkState{name: p.Interface}
	}
	return linkState{index: l.index, name: l.name, up: l.up, mac: l.mac.String()}
}

// ear is the one that an address is announced with.
func (h *Host) ear(p *place) (*ear, error) {
	l := h.seen.links[h.nameOf(p)]
	if port := h.ports[l.index]; port != nil {
		return port.ear(l.mac, p.Prefix.Addr().Is4())
	}
	return nil, fmt.Errorf("nothing is heard on interface %s", p.Interface)
}

// listen opens the ears that are missing, and closes those of interfaces that
// are gone.
func (h *Host) listen() error {
	there := make(map[int]link)
	for _, l := range h.seen.links {
		there[l.index] = l
	}
	for index, p := range h.ports {
		if _, ok := there[index]; !ok {
			delete(h.ports, index)
			p.close()
		}
	}
	for _, p := range h.places {
		l, ok := h.seen.links[h.nameOf(p)]
		if !ok || l.mac == nil {
			continue
		}
		if h.ports[l.index] == nil {
			h.ports[l.index] = &port{name: l.name}
		}
		slot, proto := &h.ports[l.index].six, uint16(etherIPv6)
		if p.Prefix.Addr().Is4() {
			slot, proto = &h.ports[l.index].four, etherARP
		}
		if *slot != nil {
			continue
		}
		e, err := listen(l, proto)
		if err != nil {
			return explain(err)
		}
		*slot = e
		h.wg.Go(func() { h.hear(l, e) })
	}
	return nil
}

// hear hands on what one ear hears of the addresses on its interface.
func (h *Host) hear(l link, e *ear) {
	err := e.hear(func(s sight, came time.Duration) {
		for _, p := range h.places {
			if p.Prefix.Addr() != s.addr || p.Interface != l.name {
				continue
			}
			to := h.heard
			if asked := h.asked.Load(); asked != nil {
				to = *asked
			}
			select {
			case to <- hearing{place: p, sight: s, came: came}:
			default: // a storm: what is said again and again is heard again
			}
		}
	})
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.tell(Event{Kind: Failed, Interface: l.name, Text: fmt.Sprintf("who has the addresses is not heard on %s for a while: %v", l.name, err)})
		if p := h.ports[l.index]; p != nil {
			p.lose(e) // listen opens another
		}
	}
}

// linksChanged looks at the interfaces when the kernel says that something about
// them changed.
func (h *Host) linksChanged() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	if err := h.look(); err != nil {
		h.tell(Event{Kind: Failed, Text: err.Error()})
		return
	}
	if err := h.listen(); err != nil {
		h.tell(Event{Kind: Failed, Text: err.Error()})
	}
	told := make(map[linkChange]bool) // once for all addresses of an interface
	for _, p := range h.places {
		if here := h.seen.has(p.index, p.Prefix.Addr()); h.cfg.Foreign && here != p.here {
			p.here = here
			h.restart() // announced when it is here
		}
		was := p.state
		p.state = h.state(p)
		if change := (linkChange{was, p.state}); was != p.state && !told[change] {
			told[change] = true
			h.linkChanged(p, was)
		}
		h.addressChanged(p, was)
	}
	if h.held {
		_ = h.mend(h.cfg.Clock()) // the keeper does what is to wait
	}
	h.nudge()
}

type linkChange struct{ was, is linkState }

func (h *Host) linkChanged(p *place, was linkState) {
	is := p.state
	switch {
	case was.index != 0 && is.index == 0:
		h.tell(Event{Kind: LinkDown, Interface: p.Interface, Text: fmt.Sprintf("interface %s is gone", was.name)})
	case was.up && !is.up:
		h.tell(Event{Kind: LinkDown, Interface: p.Interface, Text: fmt.Sprintf("interface %s is down or has no carrier", is.name)})
	case !was.up && is.up:
		h.tell(Event{Kind: LinkUp, Interface: p.Interface, Text: fmt.Sprintf("interface %s is up", is.name)})
		h.restart()
	case was.mac != is.mac:
		h.log.Info("interface has another MAC address", "interface", is.name, "mac", is.mac)
		h.restart()
	}
	if was.index != 0 && was.index == is.index && was.name != is.name {
		h.tell(Event{Kind: LinkRenamed, Interface: p.Interface, Text: fmt.Sprintf(
			"interface %s is called %s now: addresses on it stay, but are not taken anew before the configuration names it so", was.name, is.name)})
	}
}

// addressChanged sees to an address that is not where it should be. The kernel
// itself removes those of IPv6 from an interface that goes down, so that only
// what was removed from one that was up was removed by others.
func (h *Host) addressChanged(p *place, was linkState) {
	if !h.held || h.cfg.Foreign || p.state.index == 0 || h.seen.has(p.index, p.Prefix.Addr()) {
		p.mending = false
		return
	}
	if p.mending {
		// The kernel may have taken it off before it said that the interface goes
		// down: then nobody has removed it, and it is put back without a pause.
		if was.up && !p.state.up {
			p.repaired = 0
		}
		return
	}
	p.mending = true
	if was.up && p.state.up {
		h.tell(Event{Kind: Removed, Interface: p.Interface, Addr: p.Prefix.Addr(), Text: fmt.Sprintf(
			"somebody removed address %s: it is put back, at most every %v", p.Address, RepairEvery)})
	} else {
		p.repaired = 0
	}
}
