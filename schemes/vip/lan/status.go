package lan

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Fit is nil when this host could take the addresses now. The error is a
// sentence for an operator.
func (h *Host) Fit() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrNotHeld
	}
	if err := h.look(); err != nil {
		return err
	}
	if h.broken != nil && !h.held {
		h.broken = explain(h.fence.shut())
	}
	if h.broken != nil {
		return h.broken
	}
	for _, p := range h.places {
		if err := h.ready(p.Address); err != nil {
			return err
		}
		switch {
		case !h.held && h.contested(p):
			return &ConflictError{Address: p.Address, MAC: p.rival}
		case h.held && p.state.index == 0:
			return fmt.Errorf("interface %s is another one than that which address %s was put on", p.Interface, p.Prefix.Addr())
		case h.held && p.mending:
			return fmt.Errorf("address %s was removed by others, again and again", p.Address)
		}
	}
	return nil
}

// contested reports whether a stranger had an address a moment ago, for which it
// was not taken.
func (h *Host) contested(p *place) bool {
	return p.rival != nil && h.cfg.Clock().Boot-p.rivalSeen < rivalFor
}

// ready says why an address cannot stand on its interface.
func (h *Host) ready(a Address) error {
	l, ok := h.seen.links[a.Interface]
	switch {
	case !ok:
		return fmt.Errorf("interface %s does not exist", a.Interface)
	case l.mac == nil:
		return fmt.Errorf("interface %s has no Ethernet address: an address on it cannot be announced", a.Interface)
	case !l.up:
		return fmt.Errorf("interface %s is down or has no carrier", a.Interface)
	case a.Prefix.Addr().Is6():
		return ipv6Enabled(a.Interface)
	}
	return nil
}

func ipv6Enabled(iface string) error {
	b, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", iface, "disable_ipv6"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("this host has no IPv6 on interface %s", iface)
	case err != nil:
		return fmt.Errorf("see whether interface %s has IPv6: %w", iface, err)
	case strings.TrimSpace(string(b)) != "0":
		return fmt.Errorf("IPv6 is disabled on interface %s (sysctl net.ipv6.conf.%s.disable_ipv6)", iface, iface)
	}
	return nil
}

// Status is how the addresses stand now.
func (h *Host) Status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		_ = h.look() // else as of the last time; Fit tells why
	}
	s := Status{Held: h.held, Until: h.until}
	for _, p := range h.places {
		index := p.index
		if index == 0 {
			index = h.seen.links[p.Interface].index
		}
		s.Addresses = append(s.Addresses, AddressStatus{Address: p.Address, MAC: h.seen.links[p.Interface].mac,
			Present: h.seen.has(index, p.Prefix.Addr()), Announced: p.announced, Conflict: p.rival, Seen: p.rivalSeen})
	}
	return s
}

// explain makes a sentence of what an operator has to do about an error.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("this process may not change the network, it needs CAP_NET_ADMIN and CAP_NET_RAW: %w", err)
	}
	return err
}
