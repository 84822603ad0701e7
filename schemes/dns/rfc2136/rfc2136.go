// Package rfc2136 moves a name on the name server that an operator runs, by
// DNS UPDATE (RFC 2136) signed by TSIG (RFC 8945).
//
// The epoch stands beside the name, as the TXT record of dns.EpochName in the
// same zone. Each update requires that this record is exactly what was read
// before, and replaces it together with the addresses: the server itself
// refuses a writer that is late, and a message that is sent again.
package rfc2136

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// Defaults of Config.
const (
	// DefaultTimeout: a server that is well answers within 20 ms.
	DefaultTimeout = 500 * time.Millisecond
	// DefaultWait: Knot lets an update wait up to 4.8 s behind a secondary
	// that is silent, PowerDNS 5.0 s.
	DefaultWait = 6 * time.Second
	// DefaultLag: Knot tells its secondaries after 1.0 s, BIND at once with
	// notify-delay 0.
	DefaultLag = 3 * time.Second
)

// Config describes the effect on one zone.
type Config struct {
	Zone  string     // fully qualified
	Names []dns.Name // by service, each once, in the zone
	// Primary is the server that takes updates. It should stand outside the
	// sites that may be lost.
	Primary dns.Server
	// Secondaries are the zone's other authorities: what users may ask.
	Secondaries []dns.Server
	KeyFile     string // read anew for each update
	TCP         bool   // for all updates, not only for those above 512 octets
	// Timeout bounds a query, each tried by UDP and then TCP, and an update by
	// UDP. Default DefaultTimeout.
	Timeout time.Duration
	// Wait bounds an update by TCP. Default DefaultWait.
	Wait time.Duration
	// Lag is how long Done waits for secondaries when the primary has the
	// records. Default DefaultLag.
	Lag time.Duration
	// Now dates the signatures. Default time.Now.
	Now func() time.Time
}

// Effect is the effect of moving names by DNS UPDATE.
type Effect struct {
	cfg      Config
	names    dns.Book
	released runbook.Released
	// sightings are of the primary.
	sightings dns.Sightings
}

var _ runbook.Effect = (*Effect)(nil)

// New validates the configuration, reads the key once to see that it can, and
// returns the effect.
func New(cfg Config) (*Effect, error) {
	for into, value := range map[*time.Duration]time.Duration{
		&cfg.Timeout: DefaultTimeout, &cfg.Wait: DefaultWait, &cfg.Lag: DefaultLag} {
		if *into == 0 {
			*into = value
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e := &Effect{cfg: cfg}
	var errs []error
	if err := dns.ValidName(cfg.Zone); err != nil {
		errs = append(errs, fmt.Errorf("zone: %w", err))
	}
	if cfg.Timeout < 0 || cfg.Wait < 0 || cfg.Lag < 0 {
		errs = append(errs, errors.New("a negative time"))
	}
	seen := make(map[string]bool)
	for _, s := range e.authorities() {
		if _, _, err := net.SplitHostPort(s.Address); err != nil {
			errs = append(errs, fmt.Errorf("server: %w", err))
		}
		if seen[s.Address] {
			errs = append(errs, fmt.Errorf("server %s twice", s.Address))
		}
		seen[s.Address] = true
	}
	var err error
	if e.names, err = dns.NewZoneBook(cfg.Zone, cfg.Names); err != nil {
		errs = append(errs, err)
	}
	if _, err := ReadKey(cfg.KeyFile); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("dns update effect: %w", err)
	}
	return e, nil
}

// authorities lists all servers, the primary first.
func (e *Effect) authorities() []dns.Server {
	return append([]dns.Server{e.cfg.Primary}, e.cfg.Secondaries...)
}

// Warnings tells what about the servers' places endangers a move.
func (c Config) Warnings() []string {
	var out []string
	if c.Primary.Site != "" {
		out = append(out, fmt.Sprintf("the primary of %s stands at site %s: when that site is lost, no name of the zone can be moved; "+
			"let it stand outside the sites", c.Zone, c.Primary.Site))
	}
	if len(c.Secondaries) == 0 {
		out = append(out, fmt.Sprintf("zone %s has one server only: when it is lost, names fail as answers expire", c.Zone))
	}
	return out
}

// doLimit bounds Do: the epoch is read, an update tried by UDP, the epoch read
// back, the update tried by TCP, and read back with the records; a second is
// for repetitions after SERVFAIL and in a race.
func (e *Effect) doLimit() time.Duration { return 9*e.cfg.Timeout + e.cfg.Wait + time.Second }

// Promise is strong: the primary orders the updates.
func (e *Effect) Promise() runbook.Promise {
	// Done: the epoch, then the records at once, each by UDP and TCP, at the
	// beginning and once more at the end of the lag.
	return runbook.Promise{CompareAndSet: runbook.Strong, Worst: e.doLimit() + e.cfg.Lag + 8*e.cfg.Timeout}
}

// Release records that the token is given up. The records stay: they are never
// taken away, and only a later epoch replaces them.
func (e *Effect) Release(_ context.Context, op runbook.Op) error {
	e.released.Add(op)
	return nil
}

// Do brings the operation's records and epoch to the primary.
func (e *Effect) Do(ctx context.Context, op runbook.Op) error {
	if op.Token.Epoch == 0 {
		return errors.New("epoch 0 names no activation")
	}
	target, err := e.names.Target(op)
	if err != nil {
		return err
	}
	if e.released.Has(op) {
		return fmt.Errorf("move to %v: %w", op.Token, runbook.ErrReleased)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("move to %v: %w", op.Token, err)
	}
	ctx, cancel := context.WithTimeout(ctx, e.doLimit())
	defer cancel()
	w := writer{Effect: e, op: op, name: e.names[op.Service], target: target, tcp: e.cfg.TCP}
	return w.run(ctx)
}
