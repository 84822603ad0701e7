// Package dyndns2 moves a name at a service that speaks the dyndns2 protocol,
// as No-IP and Dyn do: one request over HTTPS for each host.
//
// Such a service keeps addresses and nothing else. It knows no epochs and
// compares nothing, so requests go through dns.Gate, and whether a name is
// moved is read from the authorities that users are sent to. It also blocks
// clients that do not heed its return codes: what may be sent again, and when,
// is the Account's.
package dyndns2

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// Defaults of Config.
const (
	// DefaultTimeout: a server that is well answers within 20 ms, over a
	// continent within 200.
	DefaultTimeout = 500 * time.Millisecond
	// DefaultLag: the services promise nothing.
	DefaultLag = 30 * time.Second
)

// Config describes the hosts of one account.
type Config struct {
	// URL is where updates go, without a query: https only.
	URL string
	// Names are the hosts, by service. A site has one IPv4 address, one IPv6
	// address, or one of each, and all sites of a name have the same
	// families: the protocol has no way to take an address away. TTLs are the
	// service's own.
	Names []dns.Name
	// Authorities are the name servers that users are sent to. They are where
	// it is read what is in force.
	Authorities []dns.Server
	// CredentialsFile is read anew for each request (ReadCredentials).
	CredentialsFile string
	// CAFile holds the certificates that may vouch for the service, in PEM;
	// those of the system if empty. It is read once.
	CAFile string
	// Contact is a mail address for the service's people. Services block
	// clients that have none.
	Contact string
	// Version of draas, for the same.
	Version string
	// Gate is the account's, and outlives the effect when the configuration
	// is loaded anew.
	Gate *dns.Gate
	// Account is the same's, and outlives the effect likewise. New lifts its
	// stops. Default a new one.
	Account *Account
	// Timeout bounds a query, each tried by UDP and then TCP. Default
	// DefaultTimeout.
	Timeout time.Duration
	// Lag is how long the authorities may take to follow the service. Default
	// DefaultLag.
	Lag time.Duration
	// Now is for the times that the service sets. Default time.Now.
	Now func() time.Time
}

// Effect is the effect of moving names at a dyndns2 service.
type Effect struct {
	cfg      Config
	names    dns.Book
	client   *client
	account  *Account
	released runbook.Released

	mu sync.Mutex
	// brought is what Do last succeeded with here. The service keeps no
	// epoch, so this is all there is to tell two of one site apart.
	brought map[draas.ServiceID]dns.Decision
}

var _ runbook.Effect = (*Effect)(nil)

// New validates the configuration, reads the credentials once to see that it
// can, and returns the effect.
func New(cfg Config) (*Effect, error) {
	for into, value := range map[*time.Duration]time.Duration{&cfg.Timeout: DefaultTimeout, &cfg.Lag: DefaultLag} {
		if *into == 0 {
			*into = value
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Account == nil {
		cfg.Account = NewAccount()
	}
	e := &Effect{cfg: cfg, account: cfg.Account, brought: make(map[draas.ServiceID]dns.Decision)}
	var errs []error
	if cfg.Gate == nil || cfg.Timeout < 0 || cfg.Lag < 0 {
		errs = append(errs, errors.New("want a gate, and no negative time"))
	}
	if len(cfg.Authorities) == 0 {
		errs = append(errs, errors.New("want the authorities of the names: what is in force is read from them"))
	}
	for _, s := range cfg.Authorities {
		if _, _, err := net.SplitHostPort(s.Address); err != nil {
			errs = append(errs, fmt.Errorf("authority: %w", err))
		}
	}
	var err error
	if e.client, err = newClient(cfg); err != nil {
		errs = append(errs, err)
	}
	if e.names, err = dns.NewBook(cfg.Names); err != nil {
		errs = append(errs, err)
	}
	taken := make(map[string]bool)
	for _, n := range cfg.Names {
		errs = append(errs, representable(n))
		if taken[hostOf(n.Name)] {
			errs = append(errs, fmt.Errorf("two services at the name %s", n.Name))
		}
		taken[hostOf(n.Name)] = true
	}
	if _, err := ReadCredentials(cfg.CredentialsFile); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("dyndns2 effect: %w", err)
	}
	e.account.reopen()
	return e, nil
}

// representable refuses what the protocol cannot bring about.
func representable(n dns.Name) error {
	var families []uint16
	for _, site := range sortedSites(n) {
		t := n.Targets[site]
		if t.CNAME != "" {
			return fmt.Errorf("name %s, site %s: dyndns2 knows addresses only, no CNAME", n.Name, site)
		}
		for _, qtype := range t.Types() {
			if len(t.Values(qtype)) > 1 {
				return fmt.Errorf("name %s, site %s: dyndns2 keeps one %s record, not %d", n.Name, site, mdns.TypeToString[qtype], len(t.Values(qtype)))
			}
		}
		switch {
		case families == nil:
			families = t.Types()
		case !slices.Equal(families, t.Types()):
			return fmt.Errorf("name %s, site %s: want the same families of addresses at all sites: dyndns2 cannot remove an address", n.Name, site)
		}
	}
	return nil
}

func sortedSites(n dns.Name) []draas.SiteID {
	var sites []draas.SiteID
	for site := range n.Targets {
		sites = append(sites, site)
	}
	slices.Sort(sites)
	return sites
}

// Promise is none: the service does not compare epochs, and keeps none. What
// is in force is read back.
func (e *Effect) Promise() runbook.Promise {
	// Do reads A and AAAA of all authorities at once, each by UDP and TCP;
	// Done does so at the beginning and once more at the end of the lag.
	return runbook.Promise{CompareAndSet: runbook.None, Worst: e.cfg.Gate.Worst() + e.cfg.Lag + 6*e.cfg.Timeout}
}

// Release records that the token is given up. The addresses stay: they are
// never taken away, and only a later epoch replaces them.
func (e *Effect) Release(_ context.Context, op runbook.Op) error {
	e.released.Add(op)
	return nil
}

// Do brings the operation's addresses to the service, unless the authorities
// answer them already or the service has confirmed them a moment ago.
func (e *Effect) Do(ctx context.Context, op runbook.Op) error {
	if op.Token.Epoch == 0 {
		return errors.New("epoch 0 names no activation")
	}
	target, err := e.names.Target(op)
	if err != nil {
		return err
	}
	if err := e.acceptable(op); err != nil {
		return err
	}
	m := move{Effect: e, op: op, name: e.names[op.Service], target: target}
	pass, err := e.cfg.Gate.Enter(ctx, op)
	if err != nil {
		return m.wrap(err)
	}
	defer pass.Leave()
	if err := e.acceptable(op); err != nil { // it may have waited long
		return err
	}
	if err := m.run(ctx, pass); err != nil {
		return m.wrap(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.brought[op.Service] = dns.Decision{Token: op.Token, Site: op.To}
	return nil
}

// acceptable refuses what was given up, and two sites at one epoch. That no
// later token was seen is the gate's to say.
func (e *Effect) acceptable(op runbook.Op) error {
	if e.released.Has(op) {
		return fmt.Errorf("move to %v: %w", op.Token, runbook.ErrReleased)
	}
	if last := e.last(op.Service); last.Token == op.Token && last.Site != op.To {
		return fmt.Errorf("%v was given to %s, not to %s", op.Token, last.Site, op.To)
	}
	return nil
}

func (e *Effect) last(id draas.ServiceID) dns.Decision {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.brought[id]
}

// addresses are the target's, IPv4 first.
func addresses(t dns.Target) []netip.Addr {
	out := make([]netip.Addr, len(t.Addresses))
	for i, a := range t.Addresses {
		out[i] = a.Unmap()
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
