package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
	"github.com/draasd/draas/schemes/dns/dyndns2"
)

// acting is what receivers that know no epochs need of this member before it
// sends them anything: whether it may take a token for the latest, and since
// when the one before is over. The main loop tells it, the effects ask.
type acting struct {
	mu    sync.Mutex
	touch draas.Reading // when this member had applied all that was committed; zero: never in this run
	units map[draas.ServiceID]tenure
	unit  map[draas.ServiceID]draas.ServiceID // of each service
	// entries are where users of services enter, of those that have an entry.
	entries map[draas.ServiceID]failover.Entry
	// By zone; they outlive a file.
	gates    map[string]*gateOf
	brakes   map[string]*dns.Brake
	accounts map[string]*dyndns2.Account
	// keeps are the names that a brake keeps where they were, and why.
	keeps map[heldName]string
	seen  uint64 // index up to which acknowledgements were heeded
}

// heldName is a name in a zone, and why it is not moved.
type heldName struct {
	service draas.ServiceID
	zone    string
	why     string
}

// tenure is where a unit of decision stands.
type tenure struct {
	epoch   draas.Epoch
	revoked bool
	byHand  bool // a person asked for it
	// ended is when the entry was applied that ended an epoch, and which one;
	// not known of what was ended before this run.
	ended   draas.Epoch
	endedAt draas.Reading
}

// gateOf is a zone's gate, and what it was made from.
type gateOf struct {
	gate   *dns.Gate
	window time.Duration
	late   time.Duration
}

func newActing() *acting {
	return &acting{units: make(map[draas.ServiceID]tenure), unit: make(map[draas.ServiceID]draas.ServiceID),
		entries: make(map[draas.ServiceID]failover.Entry), gates: make(map[string]*gateOf),
		brakes: make(map[string]*dns.Brake), accounts: make(map[string]*dyndns2.Account), keeps: make(map[heldName]string)}
}

// restart forgets what another run of the member has seen.
func (a *acting) restart() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.touch = draas.Reading{}
	clear(a.units)
	clear(a.keeps)
}

// decided takes over a state as this member has applied it.
func (a *acting) decided(s failover.State, now draas.Reading) {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.unit)
	clear(a.entries)
	a.acknowledged(s)
	for id, sv := range s.Services {
		for _, part := range s.Policy.PartsOf(id) {
			a.unit[part] = id
		}
		maps.Copy(a.entries, sv.Entries)
		was, known := a.units[id]
		t := tenure{epoch: sv.Epoch, revoked: sv.Revoked, byHand: byHand(sv), ended: was.ended, endedAt: was.endedAt}
		if known && sv.Revoked && !was.revoked {
			t.ended, t.endedAt = sv.Epoch, now
		}
		a.units[id] = t
		if was.epoch != t.epoch {
			for key := range a.keeps {
				if a.unit[key.service] == id {
					delete(a.keeps, key) // of another epoch
				}
			}
		}
	}
}

// acknowledged forgets the moves that a person has seen: they hold no further
// one back. a.mu is held.
func (a *acting) acknowledged(s failover.State) {
	for _, r := range slices.Backward(s.History) {
		if r.Index <= a.seen {
			break
		}
		if r.Kind != failover.RecordAcknowledge {
			continue
		}
		for _, part := range s.Policy.PartsOf(r.Service) {
			for _, b := range a.brakes {
				b.Forget(part)
			}
		}
	}
	a.seen = max(a.seen, s.Index)
}

// byHand reports whether a person asked for the epoch in force.
func byHand(sv *failover.ServiceState) bool {
	for _, m := range []*failover.Move{sv.Move, sv.Last} {
		if m != nil && m.Epoch == sv.Epoch {
			return m.Operator != ""
		}
	}
	return false
}

// touched notes that this member had applied all that the quorum had
// committed at the reading.
func (a *acting) touched(at draas.Reading) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at.Boot > a.touch.Boot {
		a.touch = at
	}
}

// current tells until when this member may act for the token (dns.GateConfig).
func (a *acting) current(window time.Duration) func(draas.ServiceID, runbook.Token) (draas.Deadline, bool) {
	return func(service draas.ServiceID, token runbook.Token) (draas.Deadline, bool) {
		a.mu.Lock()
		defer a.mu.Unlock()
		t := a.units[a.unit[service]]
		if a.touch == (draas.Reading{}) || t.epoch != token.Epoch || a.entries[service].Turn != token.Turn || t.revoked {
			return draas.Deadline{}, false
		}
		return draas.DeadlineAt(a.touch, window), true
	}
}

// superseded is when this member learned that the token before is over
// (dns.GateConfig).
func (a *acting) superseded(service draas.ServiceID, token runbook.Token) (draas.Reading, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, known := a.units[a.unit[service]]
	return t.endedAt, known && t.epoch == token.Epoch && t.ended != 0 && t.ended < t.epoch
}

// asked reports whether a person asked for the service's move to the token.
func (a *acting) asked(service draas.ServiceID, token runbook.Token) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.units[a.unit[service]]
	if token.Turn > 0 {
		e := a.entries[service]
		return t.epoch == token.Epoch && e.Turn == token.Turn && e.Operator != ""
	}
	return t.epoch == token.Epoch && t.byHand
}

// brake is the zone's.
func (a *acting) brake(zone string) *dns.Brake {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.brakes[zone] == nil {
		a.brakes[zone] = dns.NewBrake()
	}
	return a.brakes[zone]
}

// account is the zone's at a dyndns2 service: what that has said, and when it
// may be asked again.
func (a *acting) account(zone string) *dyndns2.Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.accounts[zone] == nil {
		a.accounts[zone] = dyndns2.NewAccount()
	}
	return a.accounts[zone]
}

// held asks the zone's brake whether the service's name may be moved to the
// token now.
func (a *acting) held(z config.Zone, service draas.ServiceID, token runbook.Token, now draas.Reading) error {
	err := a.brake(z.ID).Move(service, token, a.asked(service, token), z.MovesPerHour(), now)
	a.mu.Lock()
	defer a.mu.Unlock()
	if key := (heldName{service: service, zone: z.ID}); err != nil {
		a.keeps[key] = err.Error()
	} else {
		delete(a.keeps, key)
	}
	return err
}

// heldNames lists the names that are kept where they were.
func (a *acting) heldNames() []heldName {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []heldName
	for key, why := range a.keeps {
		out = append(out, heldName{key.service, key.zone, why})
	}
	slices.SortFunc(out, func(a, b heldName) int {
		return cmp.Or(strings.Compare(string(a.service), string(b.service)), strings.Compare(a.zone, b.zone))
	})
	return out
}

// braked is an effect whose moves a zone's brake may hold.
type braked struct {
	runbook.Effect
	acts *acting
	zone config.Zone
	now  func() draas.Reading
}

// Do implements runbook.Effect.
func (b *braked) Do(ctx context.Context, op runbook.Op) error {
	if err := b.acts.held(b.zone, op.Service, op.Token, b.now()); err != nil {
		return fmt.Errorf("move in zone %s: %w", b.zone.Name, err)
	}
	return b.Effect.Do(ctx, op)
}

// gate is the zone's: the one that it had under another file, unless its times
// have changed.
func (a *acting) gate(c *config.Config, z config.Zone, now func() draas.Reading) (*dns.Gate, error) {
	may, window := c.ActWindow()
	a.mu.Lock()
	was := a.gates[z.ID]
	a.mu.Unlock()
	if was != nil && was.window == window && was.late == z.Hosted.Late {
		return was.gate, nil
	}
	g, err := dns.NewGate(dns.GateConfig{Window: window, Drift: config.Drift, Request: config.RequestLimit, Late: z.Hosted.Late,
		Now: now, Current: a.current(may), Superseded: a.superseded})
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gates[z.ID] = &gateOf{g, window, z.Hosted.Late}
	return g, nil
}
