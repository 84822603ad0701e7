// Package designate moves a name in a zone at OpenStack's DNS service.
//
// Its promise is none: a record set is replaced by a PUT without any condition,
// one request for each type. Requests go through a gate, the epoch's record
// first, and each step is looked at before the next.
package designate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/dns/v2/recordsets"
	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// DefaultLag is how long Done waits for Designate's servers: its workers look
// after each change every few seconds.
const DefaultLag = 30 * time.Second

// Config describes the effect on one zone.
type Config struct {
	Zone            string // fully qualified
	ZoneID          string // empty: the one of that name in the project
	Names           []dns.Name
	CredentialsFile string // a clouds.yaml; read anew for each request
	Cloud           string // the cloud's name in it
	Region          string // empty: the cloud's
	Endpoint        string // https URL of Designate; empty: that of the catalog
	CA              string // file with the roots to trust; empty: the system's
	Authorities     []dns.Server
	Gate            *dns.Gate // one for all that acts on this project
	// Default of Lag: DefaultLag.
	Request, Timeout, Lag time.Duration
}

// New validates the configuration, reads the credentials once to see that it
// can, and returns the effect.
func New(cfg Config) (*dns.Hosted, error) {
	if cfg.Lag == 0 {
		cfg.Lag = DefaultLag
	}
	var errs []error
	if strings.ContainsAny(cfg.ZoneID, "/?# ") {
		errs = append(errs, fmt.Errorf("zone id %q", cfg.ZoneID))
	}
	if cfg.Endpoint != "" {
		errs = append(errs, dns.CheckEndpoint(cfg.Endpoint))
	}
	for _, n := range cfg.Names {
		if n.TTL == 0 {
			errs = append(errs, fmt.Errorf("name %s: Designate takes no ttl of 0: it would put the zone's", n.Name))
		}
	}
	if _, err := readCloud(cfg); err != nil {
		errs = append(errs, err)
	}
	client, err := dns.HTTPClient(cfg.CA)
	errs = append(errs, err)
	effect, err := dns.NewHosted(dns.HostedConfig{Zone: cfg.Zone, Names: cfg.Names, Store: &store{cfg: cfg, client: client},
		CompareAndSet: runbook.None, Gate: cfg.Gate, Authorities: cfg.Authorities,
		Request: cfg.Request, Timeout: cfg.Timeout, Lag: cfg.Lag})
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("designate: %w", err)
	}
	return effect, nil
}

// store is one zone.
type store struct {
	cfg    Config
	client *http.Client
	login  login
}

var _ dns.Store = (*store)(nil)

// held is what stands at the name.
type held []recordsets.RecordSet

// Read lists the epoch's record first: addresses that are read later are that
// epoch's, or a later one's.
func (s *store) Read(ctx context.Context, n dns.Name) (dns.Held, error) {
	var out dns.Held
	all, err := s.all(ctx, n)
	if err != nil {
		return dns.Held{}, err
	}
	for _, set := range all {
		if !leaving(set) {
			out.Add(n, set.Name, set.Type, set.Records)
		}
	}
	out.Version = all
	return out, nil
}

func (s *store) all(ctx context.Context, n dns.Name) (held, error) {
	var all held
	for _, owner := range []string{dns.EpochName(n.Name), n.Name} {
		sets, err := s.list(ctx, owner)
		if err != nil {
			return nil, err
		}
		all = append(all, sets...)
	}
	return all, nil
}

// leaving reports whether a record set is deleted, and listed until all servers
// have that.
func leaving(set recordsets.RecordSet) bool { return set.Action == "DELETE" }

// Bounds of a listing; a name has a few record sets.
const (
	perPage  = 100
	maxPages = 20
)

// listing is a page of record sets. The library's own reading takes one that
// lacks the list for an empty one.
type listing struct {
	RecordSets held `json:"recordsets"`
	Links      struct {
		Next string `json:"next"`
	} `json:"links"`
	Metadata *struct {
		TotalCount int `json:"total_count"`
	} `json:"metadata"`
}

// check accepts a page that has a list, of that name only.
func (l listing) check(owner string) error {
	if l.RecordSets == nil {
		return &dns.ServiceError{Kind: dns.ErrUnanswered, Said: "a listing that is none"}
	}
	for _, set := range l.RecordSets {
		if mdns.CanonicalName(set.Name) != mdns.CanonicalName(owner) || set.ID == "" {
			return &dns.ServiceError{Kind: dns.ErrUnanswered, Said: "a listing of other record sets than was asked for"}
		}
	}
	return nil
}

// list is all record sets at a name, or an error.
func (s *store) list(ctx context.Context, owner string) (held, error) {
	var out held
	for range maxPages {
		query := url.Values{"name": {owner}, "limit": {strconv.Itoa(perPage)}}
		if len(out) > 0 {
			query.Set("marker", out[len(out)-1].ID)
		}
		var page listing
		err := s.call(ctx, func(c *gophercloud.ServiceClient, zoneID string) error {
			_, err := c.Get(ctx, c.ServiceURL("zones", zoneID, "recordsets")+"?"+query.Encode(), &page, nil)
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := page.check(owner); err != nil {
			return nil, err
		}
		out = append(out, page.RecordSets...)
		if page.Links.Next != "" && len(page.RecordSets) > 0 {
			continue
		}
		if m := page.Metadata; m != nil && m.TotalCount != len(out) { // pages of different states
			return nil, &dns.ServiceError{Kind: dns.ErrMoved, Said: fmt.Sprintf("%d record sets of %d listed", len(out), m.TotalCount)}
		}
		return out, nil
	}
	return nil, &dns.ServiceError{Kind: dns.ErrUnanswered, Said: fmt.Sprintf("more than %d pages of record sets at %s", maxPages, owner)}
}

// Replace sets the epoch's record, then each type of address, then deletes the
// types that go: the name always has an address.
func (s *store) Replace(ctx context.Context, send dns.Send, was dns.Held, to dns.Change) (string, error) {
	sets, ok := was.Version.(held)
	if !ok {
		return "", errors.New("replace what was not read here")
	}
	find := func(owner, rtype string) *recordsets.RecordSet {
		i := slices.IndexFunc(sets, func(o recordsets.RecordSet) bool {
			return !leaving(o) && o.Type == rtype && mdns.CanonicalName(o.Name) == mdns.CanonicalName(owner)
		})
		if i < 0 {
			return nil
		}
		return &sets[i]
	}
	name := to.Name.Name
	if cname := find(name, "CNAME") != nil; cname != (to.Target.CNAME != "") && (cname || find(name, "A") != nil || find(name, "AAAA") != nil) {
		return "", &dns.ServiceError{Kind: dns.ErrForeign,
			Said: "Designate cannot exchange addresses and a CNAME at once; remove what is at " + name + " by hand"}
	}
	kept := map[string]bool{}
	for _, set := range to.Sets() {
		kept[set.Type] = true
		old := find(set.Owner, set.Type)
		if old != nil && old.TTL == set.TTL && slices.Equal(slices.Sorted(slices.Values(old.Records)), slices.Sorted(slices.Values(set.Values))) {
			continue
		}
		if err := s.write(ctx, send, old, set); err != nil {
			return "", err
		}
	}
	for _, rtype := range []string{"A", "AAAA", "CNAME"} {
		if old := find(name, rtype); old != nil && !kept[rtype] {
			err := send(ctx, func(ctx context.Context) error {
				return s.call(ctx, func(c *gophercloud.ServiceClient, zoneID string) error {
					return recordsets.Delete(ctx, c, zoneID, old.ID).ExtractErr()
				})
			})
			if err != nil {
				return "", err
			}
		}
	}
	return "", nil
}

// write makes a record set what it is to be.
func (s *store) write(ctx context.Context, send dns.Send, old *recordsets.RecordSet, set dns.Set) error {
	return send(ctx, func(ctx context.Context) error {
		return s.call(ctx, func(c *gophercloud.ServiceClient, zoneID string) error {
			if old == nil {
				return recordsets.Create(ctx, c, zoneID, recordsets.CreateOpts{Name: set.Owner, Type: set.Type, TTL: set.TTL, Records: set.Values}).Err
			}
			return recordsets.Update(ctx, c, zoneID, old.ID, recordsets.UpdateOpts{TTL: &set.TTL, Records: set.Values}).Err
		})
	})
}

// Settled reads the record sets' status: PENDING until Designate has seen the
// change at all servers of the pool.
func (s *store) Settled(ctx context.Context, n dns.Name, _ string) (pending string, err error) {
	all, err := s.all(ctx, n)
	if err != nil {
		return "", err
	}
	var out []string
	for _, set := range all {
		ours := slices.Contains([]string{"A", "AAAA", "CNAME"}, set.Type) || mdns.CanonicalName(set.Name) == mdns.CanonicalName(dns.EpochName(n.Name))
		if ours && set.Status != "ACTIVE" {
			out = append(out, fmt.Sprintf("%s %s is in status %s", set.Name, set.Type, set.Status))
		}
	}
	return strings.Join(out, ", "), nil
}
