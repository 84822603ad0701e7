// Package lan puts the addresses of a virtual IP on this host's interfaces and
// takes them away again: it adds and removes them by netlink, tells the network
// of them (gratuitous ARP, unsolicited neighbour advertisements), listens for
// others who have them, and fences them by nftables rules that shut by
// themselves when the lease is over, with no process alive.
//
// It decides nothing: who has the addresses is a lease (schemes/vip). Another
// host that has one is reported, not fought. It needs CAP_NET_ADMIN and
// CAP_NET_RAW, in the network namespace it runs in, and nothing else.
package lan

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/draasd/draas"
)

// Address is one of the addresses that move together.
type Address struct {
	Interface string // Ethernet, or what looks like it: bond, VLAN, bridge, macvlan
	// Prefix is the address with the length it is set with: /32 or /128 unless
	// the network of the address has to be made known with it.
	Prefix netip.Prefix
}

func (a Address) String() string { return fmt.Sprintf("%s on %s", a.Prefix.Addr(), a.Interface) }

// Station is an interface of another frontend of the same virtual IP.
type Station struct {
	Name string // of the frontend
	MAC  net.HardwareAddr
}

// Config describes a virtual IP on this host. Its functions are called while the
// Host is locked: they call no method of it.
type Config struct {
	// Name is the virtual IP's. It is part of the name of the fence's tables:
	// letters, digits, _ . and -, up to 64.
	Name      string
	Addresses []Address            // one or more, each address once
	Clock     func() draas.Reading // this machine's clocks
	Log       *slog.Logger         // nil: none
	// Friends are the interfaces of the other frontends, as far as they are
	// known; nil: none are. A friend that still answers for an address is one
	// whose lease is over, and is taken over from; a stranger is not.
	Friends func() []Station
	// Foreign says that another program sets and removes the addresses while the
	// Host holds them, and announces them first (keepalived: schemes/vip/keepalived).
	// The Host then asks, fences, watches and announces, and touches no address.
	Foreign bool
}

// EventKind is what happened to the addresses.
type EventKind string

// The kinds. What is marked "repaired" was put right by the Host itself, as far
// as it could: Status tells.
const (
	LinkDown    EventKind = "link-down"    // the interface is down, has no carrier, or is gone
	LinkUp      EventKind = "link-up"      // it is back; the addresses were announced anew
	LinkRenamed EventKind = "link-renamed" // the addresses stay, but cannot be taken anew
	Removed     EventKind = "removed"      // somebody removed an address; repaired, at most every RepairEvery
	Conflict    EventKind = "conflict"     // another host has the address, too; not fought
	Stale       EventKind = "stale"        // a friend answered for it after its lease
	FenceLost   EventKind = "fence-lost"   // somebody changed the fence's rules; repaired
	Expired     EventKind = "expired"      // the lease ended without Drop; the Host dropped the addresses
	Failed      EventKind = "failed"       // the Host could not do, or watch, what it should
)

// Event is something that happened to the addresses and was not asked for.
type Event struct {
	Kind      EventKind
	Interface string     // may be empty
	Addr      netip.Addr // may be invalid
	Text      string     // a sentence for an operator
}

// AddressStatus is one address as it was last observed.
type AddressStatus struct {
	Address
	MAC       net.HardwareAddr // of the interface; nil: there is none
	Present   bool
	Announced time.Duration    // boot clock; 0: not since it was taken
	Conflict  net.HardwareAddr // who else was last seen with it while it was held
	Seen      time.Duration    // boot clock, when that was
}

// Status is how the addresses stand.
type Status struct {
	Held      bool
	Until     draas.Deadline // end of the lease, while held
	Addresses []AddressStatus
}

// How fast and how often.
const (
	// probeWait is how long an answer to a probe is waited for before an address
	// is taken. A Linux host on the same LAN answers within one; the second that
	// RFC 5227 waits is for hosts that are just starting.
	probeWait = 5 * time.Millisecond
	// defendEvery is DEFEND_INTERVAL of RFC 5227, section 2.4 (c).
	defendEvery = 10 * time.Second
	// announceEvery is how often a held address is announced when nothing has
	// happened: for caches that lost what they were told.
	announceEvery = 10 * time.Second
	// RepairEvery is how often at most an address is put back that others
	// remove: an alarm instead of a fight.
	RepairEvery = 10 * time.Second
)

// Worst is how long after the deadline a packet may still pass: the kernel's
// timers are exact to a jiffy, of 10 ms at the most. It is what to take off the
// lease as margin.
const Worst = 10 * time.Millisecond

// ErrNotHeld is returned by Extend when the addresses are not held: they were
// dropped, or their lease ended before it was extended. Take is to be called.
var ErrNotHeld = errors.New("virtual IP not held")

// ConflictError says that another host has an address, so that none was taken.
type ConflictError struct {
	Address Address
	MAC     net.HardwareAddr
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("address %s is in use by another host, with MAC address %s", e.Address, e.MAC)
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

func (c Config) check() error {
	if !nameForm.MatchString(c.Name) {
		return fmt.Errorf("name %q does not make a table's name (letters, digits, _ . -)", c.Name)
	}
	if len(c.Addresses) == 0 || c.Clock == nil {
		return errors.New("an address and a clock are needed")
	}
	seen := make(map[netip.Addr]bool)
	for _, a := range c.Addresses {
		addr := a.Prefix.Addr()
		switch {
		case a.Interface == "" || len(a.Interface) >= 16 || strings.ContainsAny(a.Interface, "/ \t\n"): // IFNAMSIZ, dev_valid_name
			return fmt.Errorf("%q is no name of an interface", a.Interface)
		case !a.Prefix.IsValid() || addr.Is4In6() || addr.Zone() != "":
			return fmt.Errorf("%q is no address with its prefix length", a.Prefix)
		case addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast():
			return fmt.Errorf("%s cannot be a virtual IP", addr)
		case seen[addr]:
			return fmt.Errorf("%s is given twice", addr)
		}
		seen[addr] = true
	}
	return nil
}
