package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
)

// MaxVIPLease is the longest lease of a virtual IP (vip.MaxLease).
const MaxVIPLease = 3 * time.Second

// VIPTake is the longest that a frontend takes to set and announce an address
// that it has got, the search for a foreign holder included.
const VIPTake = 20 * time.Millisecond

// Who sets the addresses of a virtual IP.
const (
	VIPByDraas      = "draas"
	VIPByKeepalived = "keepalived" // which is told by a file whether it may
)

// VIP is a set of addresses that one of some frontends has at a time, all
// together.
type VIP struct {
	ID      string
	Holders []string // frontends, by name; at least two
	// Addresses are where users come to, and AddressesAt the same on the
	// interfaces of a frontend whose names differ.
	Addresses   []Held
	AddressesAt map[string][]Held
	Lease       draas.Lease
	SetBy       string
	TrackFile   string // for keepalived
}

// Held is an address on an interface.
type Held struct {
	Prefix    netip.Prefix // the address, with the length of its network
	Interface string
}

func (h Held) String() string { return h.Prefix.String() + " dev " + h.Interface }

// Renew is how often a lease is renewed: two questions may be lost.
func (v *VIP) Renew() time.Duration { return v.Lease.Length / 6 }

// At lists the addresses as a frontend has them.
func (v *VIP) At(frontend string) []Held {
	if at, ok := v.AddressesAt[frontend]; ok {
		return at
	}
	return v.Addresses
}

// Worst is how long the addresses are nobody's, at the longest, after the
// frontend that has them is lost.
func (v *VIP) Worst() time.Duration { return v.Lease.Wait() + VIPTake }

// VIPsOf lists the virtual IPs that a frontend may have.
func (c *Config) VIPsOf(frontend string) []VIP {
	var all []VIP
	for _, v := range c.VIPs {
		if slices.Contains(v.Holders, frontend) {
			all = append(all, v)
		}
	}
	return all
}

// VIP finds a virtual IP.
func (c *Config) VIP(id string) (VIP, bool) {
	for _, v := range c.VIPs {
		if v.ID == id {
			return v, true
		}
	}
	return VIP{}, false
}

func vipKeys() []key {
	return []key{
		{path: "vip.*.holders", kind: kindFrontends, def: "required"},
		{path: "vip.*.address", kind: kindHeld, def: "required"},
		{path: "vip.*.address_at.*", kind: kindHeld, def: "address"},
		dur("vip.*.lease", perProfile, 100*time.Millisecond, MaxVIPLease),
		{path: "vip.*.set_by", kind: kindChoice, def: VIPByDraas, oneOf: []string{VIPByDraas, VIPByKeepalived}},
		{path: "vip.*.track_file", kind: kindFile, def: "NAME.vip in data, for keepalived"},
	}
}

// held accepts an address on an interface, as ip addr and keepalived write it.
func (c *conversion) held(v any) (Held, string) {
	s, why := c.argument(v)
	if why != "" {
		return Held{}, why
	}
	f := strings.Fields(s)
	if len(f) != 3 || f[1] != "dev" {
		return Held{}, show(s) + " is not an address on an interface"
	}
	p, err := netip.ParsePrefix(f[0])
	a := p.Addr()
	switch {
	case err != nil:
		return Held{}, show(f[0]) + " is not an address with the length of its network"
	case a.Is4In6(), a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a.IsLinkLocalUnicast():
		return Held{}, show(f[0]) + " is nobody's to hold"
	case badLink(f[2]):
		return Held{}, show(f[2]) + " is not an interface"
	}
	return Held{p, f[2]}, ""
}

// vips reads the virtual IPs.
func (d *decoder) vips(c *Config, root map[string]any) []VIP {
	var all []VIP
	for _, name := range below(root, "vip") {
		at := join("vip", name)
		v := VIP{
			ID:          name,
			Holders:     slices.Clone(get[[]string](d, at+".holders", nil)),
			Addresses:   get[[]Held](d, at+".address", nil),
			AddressesAt: byName[string, []Held](d, at+".address_at", below(root, "vip", name, "address_at")),
			SetBy:       get(d, at+".set_by", VIPByDraas),
		}
		v.Lease = draas.Lease{Length: get(d, at+".lease", c.Profile.VIPLease), Drift: Drift}
		v.Lease.Margin = max(v.Lease.Length/15, 10*time.Millisecond)
		if v.SetBy == VIPByKeepalived {
			v.TrackFile = get(d, at+".track_file", c.Data+"/"+name+".vip")
		}
		d.need(at+".holders", `name the frontends that may have it, such as holders = ["edge1", "edge2"]`)
		d.need(at+".address", `write its addresses, such as address = ["192.0.2.80/24 dev eth0"]`)
		all = append(all, v)
	}
	return all
}

// checkVIPs checks what cannot stand between virtual IPs, frontends and members.
func (d *decoder) checkVIPs(c *Config) {
	owner := map[netip.Addr]string{}
	files := map[string]string{}
	byID := func(id string) string { return join("vip", id) }
	var ids []string
	for _, v := range c.VIPs {
		ids = append(ids, v.ID)
	}
	for _, id := range inOrder(d, ids, byID) {
		v, _ := c.VIP(id)
		at := byID(id)
		d.checkHolders(c, &v, at)
		for i, h := range v.Addresses {
			path := elem(at+".address", i)
			if first, taken := owner[h.Prefix.Addr()]; taken {
				d.report(path, fmt.Sprintf("%s is an address of [vip.%s] already", h.Prefix.Addr(), first), "give each its own")
			}
			owner[h.Prefix.Addr()] = id
			if by := c.fixed(h.Prefix.Addr()); by != "" {
				d.report(path, fmt.Sprintf("%s is the address of %s, which stays where it is", h.Prefix.Addr(), by), "write an address that nobody has")
			}
		}
		for _, f := range sortedKeys(v.AddressesAt) {
			d.checkAt(c, &v, join(at+".address_at", f), f)
		}
		if v.SetBy != VIPByKeepalived && d.has(at+".track_file") {
			d.report(at+".track_file", "nobody reads it", `it is for set_by = "keepalived": remove it`)
		}
		if first, taken := files[v.TrackFile]; taken && v.TrackFile != "" {
			d.report(at+".track_file", fmt.Sprintf("%s is [vip.%s]'s", v.TrackFile, first), "give each its own")
		}
		files[v.TrackFile] = id
	}
}

func (d *decoder) checkHolders(c *Config, v *VIP, at string) {
	for i, f := range v.Holders {
		if _, ok := c.Frontend(f); !ok && !d.bad["frontend"] {
			right := fmt.Sprintf("begin with a line [frontend.%s]", f)
			if guess := d.nearest(f, frontendNames(c.Frontends)); guess != "" {
				right = fmt.Sprintf("did you mean %q?", guess)
			}
			d.report(elem(at+".holders", i), fmt.Sprintf("there is no frontend %q", f), right)
		}
	}
	if len(v.Holders) == 1 {
		d.report(at+".holders", "is one frontend: an address that only one can have is no virtual IP", "name the one that takes over when this one is lost")
	}
	// Each is asked for its grant, and a majority is needed when one is lost.
	reached := 0
	for _, m := range c.Members {
		if m.API != "" {
			reached++
		}
	}
	if n := len(c.Members); d.clean("member") && (n < 3 || reached <= n/2+1 && reached < n) {
		d.report(at, fmt.Sprintf("who has it is granted by a majority of the members, over their api: of %d members %d have one", n, reached),
			"there must be a majority also when one is lost: three members with an api each (a witness is enough)")
	}
}

func (d *decoder) checkAt(c *Config, v *VIP, path, frontend string) {
	if !slices.Contains(v.Holders, frontend) {
		d.report(path, fmt.Sprintf("%s is no holder of it", show(frontend)), "write one of "+orList(v.Holders))
		return
	}
	sorted := func(all []Held) []netip.Prefix {
		var out []netip.Prefix
		for _, h := range all {
			out = append(out, h.Prefix)
		}
		slices.SortFunc(out, netip.Prefix.Compare)
		return out
	}
	if !slices.Equal(sorted(v.Addresses), sorted(v.AddressesAt[frontend])) && !d.bad[path] {
		d.report(path, "has other addresses than address: only the interfaces may differ", "write the same addresses")
	}
}

// fixed is whose an address is already; empty: nobody's.
func (c *Config) fixed(a netip.Addr) string {
	for _, m := range c.Members {
		for _, at := range []string{m.Peer, m.API, m.DNS, m.ListenPeer} {
			if ap, err := netip.ParseAddrPort(at); err == nil && ap.Addr() == a {
				return "member " + string(m.ID)
			}
		}
	}
	for i := range c.Services {
		s := &c.Services[i]
		for _, site := range s.Sites() {
			if slices.Contains(s.Addresses[site], a) {
				return fmt.Sprintf("service %s at %s", s.ID, site)
			}
			for _, server := range s.Frontend.Servers[site] {
				if server.Addr() == a {
					return fmt.Sprintf("a server of %s at %s", s.ID, site)
				}
			}
		}
	}
	return ""
}

// vipNotes say what a virtual IP leaves open.
func (c *Config) vipNotes(v *VIP) []string {
	note := fmt.Sprintf("vip.%s: when the frontend that has it is lost, another has it after %s at the longest (lease %s x %.1f, and %s to set and announce it)",
		v.ID, short(v.Worst()), short(v.Lease.Length), 1+Drift, short(VIPTake))
	if v.SetBy == VIPByKeepalived {
		note += fmt.Sprintf("; keepalived sets it then, after one of its adverts: draasd frontend keepalived %s prints what belongs into its file", v.ID)
	}
	return []string{note}
}
