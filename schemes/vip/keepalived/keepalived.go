// Package keepalived lets a keepalived that runs already set the addresses of a
// virtual IP: it follows the lease (schemes/vip) and decides nothing.
//
// A frontend writes into a file whether it has the lease, and keepalived reads
// that as soon as it is written: 1 lets its instance become master, 0, or no
// file, is a fault, in which it has no addresses. There is no election among
// those who hear each other, which is what keepalived would else do: each has a
// router id of its own.
//
// When the frontend dies the file stays as it is. A check that keepalived runs
// every second finds that; until it has, the fence of the lan package, which
// shuts by itself, keeps the addresses quiet. That fence is also what holds when
// keepalived is killed: it leaves its addresses where they are.
//
// keepalived 2.2.3 (2021) or later is needed.
package keepalived

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Address is one of the addresses that move together.
type Address struct {
	Interface string
	Prefix    netip.Prefix
}

// Config describes a virtual IP to keepalived.
type Config struct {
	Name      string // letters, digits, _ . and -
	Addresses []Address
	// Router is the virtual_router_id, 1 to 255: another one at each frontend, and
	// used by nothing else on the network. With the same one a keepalived whose
	// frontend was killed would keep the next from becoming master by its adverts,
	// until its check has found that.
	Router int
	// Advert is how often the master says that it is there, and how long a
	// frontend that was given the lease waits before it sets the addresses; in
	// hundredths of a second. Zero: DefaultAdvert.
	Advert time.Duration
	// Track is the path of the TrackFile. Its directory has to be there before
	// keepalived starts, and to stay.
	Track string
	// Check is a program, by its whole path, with arguments: it succeeds while
	// the frontend is alive, whether it has the lease or not.
	Check []string
	User  string // whom the check runs as; empty: keepalived's default
}

// DefaultAdvert is ten packets a second from the master.
const DefaultAdvert = 100 * time.Millisecond

// checkEvery and checkWait are how often the check is run and how long it may
// take, in seconds: keepalived counts in whole ones.
const (
	checkEvery = 1
	checkWait  = 1
)

// Worst is how long keepalived may keep addresses, at the most, after the
// frontend was killed: the check is started, does not end, and is given up.
const Worst = (checkEvery + checkWait) * time.Second

var (
	nameForm  = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	ifaceForm = regexp.MustCompile(`^[A-Za-z0-9_.:@-]{1,15}$`)
	userForm  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
	// plain is what keepalived's parser takes as it stands within quotes: it
	// expands $ and reads ! and # as comments, and has escapes of its own.
	plain = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+,-]+$`)
)

func (c Config) check() error {
	switch {
	case !nameForm.MatchString(c.Name):
		return fmt.Errorf("name %q (letters, digits, _ . -)", c.Name)
	case len(c.Addresses) == 0:
		return errors.New("no addresses")
	case c.Router < 1 || c.Router > 255:
		return fmt.Errorf("virtual router id %d (1 to 255)", c.Router)
	case c.Advert < 10*time.Millisecond || c.Advert > 40*time.Second || c.Advert%(10*time.Millisecond) != 0:
		return fmt.Errorf("interval of adverts %v (hundredths of a second, 10 ms to 40 s)", c.Advert)
	case !filepath.IsAbs(c.Track) || !plain.MatchString(c.Track):
		return fmt.Errorf("track file %q (a whole path of plain letters)", c.Track)
	case len(c.Check) == 0 || !filepath.IsAbs(c.Check[0]) || slices.ContainsFunc(c.Check, func(s string) bool { return !plain.MatchString(s) }):
		return fmt.Errorf("check %q (a program by its whole path, and plain arguments)", c.Check)
	case c.User != "" && !userForm.MatchString(c.User):
		return fmt.Errorf("user %q", c.User)
	}
	seen := make(map[netip.Addr]bool)
	for _, a := range c.Addresses {
		addr := a.Prefix.Addr()
		if !ifaceForm.MatchString(a.Interface) || !a.Prefix.IsValid() || addr.Zone() != "" || addr.Is4In6() || seen[addr] {
			return fmt.Errorf("address %q on interface %q", a.Prefix, a.Interface)
		}
		seen[addr] = true
	}
	return nil
}

// Snippet is what to put into keepalived.conf. It stands alone; the comments in
// it say what of it belongs into an instance, or a group of instances, that is
// there already.
func Snippet(c Config) (string, error) {
	if c.Advert == 0 {
		c.Advert = DefaultAdvert
	}
	if err := c.check(); err != nil {
		return "", fmt.Errorf("write keepalived's part of virtual IP %s: %w", c.Name, err)
	}
	name := "draas_" + c.Name
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }

	line("# Virtual IP %s: keepalived sets the addresses, draas says when.", c.Name)
	line("# The same at every frontend, but for virtual_router_id. keepalived 2.2.3 or later.")
	line("")
	line("# 1 while this frontend has the lease, read as soon as it is written. 0 is a")
	line("# fault, and so is no file: that is what \"reverse\" is for.")
	line("track_file %s {", name)
	line("    file %q", c.Track)
	line("    weight 0 reverse")
	line("}")
	line("")
	line("# The net below: a frontend that was killed leaves its file as it is. Found")
	line("# after %d seconds at the most.", int(Worst/time.Second))
	line("vrrp_script %s {", name)
	line("    script %q", strings.Join(c.Check, " "))
	line("    interval %d", checkEvery)
	line("    timeout %d", checkWait)
	line("    fall 1")
	line("    rise 1")
	line("    weight 0")
	line("    init_fail")
	if c.User != "" {
		line("    user %s", c.User)
	}
	line("}")
	line("")
	line("# To an instance that is there already add its virtual_router_id, priority,")
	line("# advert_int, down_timer_adverts, nopreempt and the garp_ lines, and both track_")
	line("# blocks; those to its vrrp_sync_group instead, if it is in one.")
	line("vrrp_instance %s {", name)
	line("    version 3")
	line("    state BACKUP")
	line("    # Whoever has the lease waits for one advert, not for three and more: there")
	line("    # is nobody to wait for.")
	line("    priority 254")
	line("    advert_int %s", seconds(c.Advert))
	line("    down_timer_adverts 1")
	line("    nopreempt")
	line("    interface %s", c.Addresses[0].Interface)
	line("    # Another one at each frontend, so that no other's adverts count.")
	line("    virtual_router_id %d", c.Router)
	line("    # Announced three times at once, again after a second, and every ten seconds.")
	line("    garp_master_delay 1")
	line("    garp_master_repeat 3")
	line("    garp_master_refresh 10")
	line("    garp_master_refresh_repeat 1")
	addresses(line, c.Addresses)
	line("    track_file {")
	line("        %s", name)
	line("    }")
	line("    track_script {")
	line("        %s", name)
	line("    }")
	line("}")
	return b.String(), nil
}

// addresses writes them: those of the first one's family, by which keepalived
// chooses between VRRP over IPv4 and over IPv6, and the others, which it does
// not tell of in adverts.
func addresses(line func(string, ...any), all []Address) {
	four := all[0].Prefix.Addr().Is4()
	block := func(name string, those func(Address) bool) {
		some := slices.DeleteFunc(slices.Clone(all), func(a Address) bool { return !those(a) })
		if len(some) == 0 {
			return
		}
		line("    %s {", name)
		for _, a := range some {
			flags := ""
			if a.Prefix.Addr().Is6() {
				// No connection of this host's own is to start from it.
				flags = " preferred_lft 0"
			}
			line("        %s dev %s%s", a.Prefix, a.Interface, flags)
		}
		line("    }")
	}
	block("virtual_ipaddress", func(a Address) bool { return a.Prefix.Addr().Is4() == four })
	block("virtual_ipaddress_excluded", func(a Address) bool { return a.Prefix.Addr().Is4() != four })
	var others []string
	for _, a := range all[1:] {
		if a.Interface != all[0].Interface && !slices.Contains(others, a.Interface) {
			others = append(others, a.Interface)
		}
	}
	if len(others) > 0 {
		line("    track_interface {")
		for _, o := range others {
			line("        %s", o)
		}
		line("    }")
	}
}

// seconds writes a duration as keepalived reads it.
func seconds(d time.Duration) string {
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.2f", d.Seconds()), "0"), ".")
}
