package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
)

// Hosted says how a zone is changed at a DNS service.
type Hosted struct {
	Credentials string // path of the file with what the service knows us by
	ZoneID      string // the service's own name of the zone
	Endpoint    string // URL of the service's interface; empty: the provider's own
	CA          string // path; empty: the system's roots
	Cloud       string // designate: the cloud's name in Credentials, a clouds.yaml
	Region      string
	Domain      string // failure domain in which the service stands; empty: no site's
	Authorities []string
	// Lag is the longest that the service takes to bring a change to its
	// servers.
	Lag time.Duration
	// Late is how long after a request was given up the service may still
	// carry it out; of providers that compare nothing.
	Late time.Duration
}

// cloudflareTTL is the shortest that Cloudflare takes.
const cloudflareTTL = 30 * time.Second

// hostedProviders are the DNS services.
func hostedProviders() []string {
	return []string{ProviderDynDNS2, ProviderDesignate, ProviderRoute53, ProviderCloudflare}
}

// IsHosted reports whether the zone is at a DNS service.
func (z Zone) IsHosted() bool { return slices.Contains(hostedProviders(), z.Provider) }

// Compares reports whether the zone's receivers refuse what is late by
// themselves; else a successor waits until nothing late can come any more.
func (z Zone) Compares() bool {
	return !z.IsHosted() || z.Provider == ProviderRoute53
}

// DefaultMoves bounds the moves of one name in an hour: holds and flap damping
// let through far fewer, so that more of them are a fault's.
const DefaultMoves = 30

// MovesPerHour is how often one of the zone's names may be moved in an hour
// by itself.
func (z Zone) MovesPerHour() int {
	if z.Moves == 0 {
		return DefaultMoves
	}
	return z.Moves
}

// Every is how often it is looked at whether the zone's servers still answer
// as decided.
func (z Zone) Every() time.Duration {
	switch {
	case z.Observe > 0:
		return z.Observe
	case z.IsHosted():
		return 5 * time.Minute // services count requests
	}
	return 30 * time.Second
}

// Lag is how long the zone's other servers may take to follow a change, and
// the key that says so.
func (z Zone) Lag() (lag time.Duration, sets string) {
	if z.IsHosted() {
		return z.Hosted.Lag, join("dns", z.ID) + ".lag"
	}
	if z.Provider == ProviderEmbedded {
		return z.Copies.Lag, join("dns", z.ID) + ".secondary_lag"
	}
	return z.Update.Lag, join("dns", z.ID) + ".secondary_lag"
}

// RequestLimit bounds one request to a DNS service that compares nothing.
const RequestLimit = 5 * time.Second

// ActWindow is for how long after its last touch with the leader a member may
// still begin a request to a receiver that compares nothing, and how long after
// the last touch with the quorum that is at most: a leader that was cut off
// stays one for an election time, in which its followers hear it.
func (c *Config) ActWindow() (may, window time.Duration) {
	return 2 * c.Raft.Election, 4 * c.Raft.Election
}

// Quarantine is how long after a decision the zone's service is left alone,
// until nothing late can come any more.
func (c *Config) Quarantine(z Zone) time.Duration {
	if z.Compares() {
		return 0
	}
	_, window := c.ActWindow()
	// By the slowest of clocks, as dns.GateConfig has it.
	return time.Duration(float64(window+RequestLimit+z.Hosted.Late) * (1 + Drift) / (1 - Drift))
}

// hostedLag is how long each service takes by its own account, or by ours.
func hostedLag(provider string) time.Duration {
	switch provider {
	case ProviderCloudflare:
		return 10 * time.Second
	case ProviderDesignate:
		return 30 * time.Second
	}
	return time.Minute // Route 53: "generally within 60 seconds"
}

// hosted is how a DNS service changes a zone.
func (d *decoder) hosted(at, provider string) Hosted {
	d.need(at+".zone", `name the zone that the service has, such as zone = "example.org."`)
	d.need(at+".credentials_file", `name the file with the credentials, such as credentials_file = "dns.credentials"`)
	d.need(at+".authorities", `list the zone's servers as users' resolvers reach them, such as authorities = ["192.0.2.53:53", "198.51.100.53:53"]`)
	switch provider {
	case ProviderDynDNS2:
		d.need(at+".contact", `give a mail address, with a dot for the @, such as contact = "hostmaster.example.org.": services block clients without one`)
		d.need(at+".endpoint", `write the URL of updates, such as endpoint = "https://dynupdate.no-ip.com/nic/update"`)
	case ProviderRoute53, ProviderCloudflare:
		d.need(at+".zone_id", "write the id that the service gave to the zone")
	case ProviderDesignate:
		d.need(at+".cloud", `name the cloud in the credentials file, such as cloud = "acme-dns"`)
		d.need(at+".domain", `name the failure domain in which that Designate runs, such as domain = "cloud": no site's`)
	}
	h := Hosted{
		Credentials: get(d, at+".credentials_file", ""),
		ZoneID:      get(d, at+".zone_id", ""),
		Endpoint:    get(d, at+".endpoint", ""),
		CA:          get(d, at+".ca", ""),
		Cloud:       get(d, at+".cloud", ""),
		Region:      get(d, at+".region", ""),
		Domain:      get(d, at+".domain", ""),
		Authorities: get[[]string](d, at+".authorities", nil),
		Lag:         get(d, at+".lag", hostedLag(provider)),
	}
	if provider != ProviderRoute53 {
		h.Late = get(d, at+".late", 5*time.Second)
	}
	return h
}

// checkDomain checks that what takes a zone's changes outlives a site: when it
// is lost with the site, nobody can be moved.
func (d *decoder) checkDomain(c *Config, z Zone, what, domain, at string) {
	for _, s := range c.Services {
		if !slices.Contains(s.DNS.Zones(), z.ID) || !s.Automatic {
			continue
		}
		for _, site := range s.Sites() {
			if m, _ := c.Member(site.Member()); m.Domain == domain && m.ID != "" && d.clean(at+".domain") {
				d.report(at+".domain", fmt.Sprintf("%s stands in the failure domain of %q: when that is lost, %s cannot be moved by itself", what, site, s.ID),
					"let a server outside of both sites take the updates, or set automatic = false")
				return
			}
		}
	}
}

// fitsDynDNS2 refuses what dyndns2 cannot say: it knows one address of each
// family for a name, and nothing else.
func (d *decoder) fitsDynDNS2(s *Service) {
	at := join("service", string(s.ID))
	table, answers := at+".address", s.Addresses
	if s.Scheme == SchemeHybrid {
		table, answers = at+".dns.enter", s.DNS.Enter
	} else {
		for _, site := range sortedKeys(s.CNAME) {
			d.report(join(at+".cname", string(site)), "dyndns2 cannot set a CNAME", "give addresses, or use another provider")
		}
	}
	for _, site := range sortedKeys(answers) {
		var v4, v6 int
		for _, a := range answers[site] {
			if a.Unmap().Is4() {
				v4++
			} else {
				v6++
			}
		}
		if v4 > 1 || v6 > 1 {
			d.report(join(table, string(site)), "dyndns2 takes one address of each family", "keep one, or use another provider")
		}
	}
}

// alsoAt checks the further zones that a service's name is changed in.
func (d *decoder) alsoAt(c *Config, s *Service) {
	at := join("service", string(s.ID)) + ".dns.also"
	main, ok := c.DNS[s.DNS.Zone]
	for i, id := range s.DNS.Also {
		path := elem(at, i)
		z, known := c.DNS[id]
		switch {
		case !known:
			d.report(path, fmt.Sprintf("there is no [dns.%s]", id), "add it, or use "+orList(quoteAll(sortedKeys(c.DNS))))
		case id == s.DNS.Zone:
			d.report(path, fmt.Sprintf("%q is the service's zone already (use)", id), "remove it")
		case ok && z.Name != main.Name && z.Name != "" && main.Name != "":
			d.report(path, fmt.Sprintf("has the zone %s, and %s has %s", z.Name, s.DNS.Zone, main.Name), "list tables of the same zone")
		}
	}
	if !ok || main.Name == "" {
		return
	}
	for _, id := range sortedKeys(c.DNS) {
		z := c.DNS[id]
		ours := z.Provider == ProviderEmbedded || main.Provider == ProviderEmbedded // such tables cannot be two
		if z.Name == main.Name && !ours && !slices.Contains(s.DNS.Zones(), id) {
			d.report(join("service", string(s.ID))+".dns.use", fmt.Sprintf("[dns.%s] has the zone %s too: its servers would not follow", id, z.Name),
				fmt.Sprintf("add also = [%q]", id))
		}
	}
}

// endpoint accepts an https URL without credentials in it.
func (c *conversion) endpoint(s string) (any, bool) {
	if strings.Contains(s, "@") { // it is not shown
		return c.fail("has credentials in it: they belong into the credentials file", c.want())
	}
	if why := badURL(s); why != "" {
		return c.fail(show(s)+" "+why, c.want())
	}
	return s, true
}

// badURL says what is wrong with the URL of a DNS service.
func badURL(s string) string {
	u, err := url.Parse(s)
	switch {
	case strings.HasPrefix(s, "http://"):
		return "would send the credentials unprotected"
	case err != nil, u.Scheme != "https", u.Fragment != "", u.Opaque != "":
		return "is not an https URL"
	case u.RawQuery != "":
		return "has a query: draasd writes that"
	case u.Port() == "" && strings.HasSuffix(u.Host, ":"):
		return "has no port behind the colon"
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && (u.Hostname() == "" || badDomain(u.Hostname()) != "") {
		return "has no host"
	}
	return ""
}

// hostedNotes say what a zone at a DNS service leaves open.
func (c *Config) hostedNotes(z Zone) []string {
	var notes []string
	note := func(format string, args ...any) {
		notes = append(notes, fmt.Sprintf("dns.%s: ", z.ID)+fmt.Sprintf(format, args...))
	}
	for _, m := range c.Members {
		if m.Role == draas.RoleSite && z.Hosted.Domain != "" && m.Domain == z.Hosted.Domain {
			note("the service stands in the failure domain of %s: when that is lost, no name of %s can be moved", m.ID, z.Name)
		}
	}
	switch z.Provider {
	case ProviderDynDNS2:
		note("dyndns2 compares nothing and keeps no epoch: whoever has the credentials may move the name, and what it answers shows the address only. A move waits until no request of an earlier one can come any more")
	case ProviderDesignate, ProviderCloudflare:
		note("%s compares nothing: a request that the service carries out more than %s late could undo a move, until it is seen and put right. A move waits until no request of an earlier one can come any more", z.Provider, short(z.Hosted.Late))
	}
	return notes
}
