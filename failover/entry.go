package failover

import (
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Entry is where users of a part come in: its name leads to the frontends at
// this site, which lead them on to the active site.
type Entry struct {
	Site draas.SiteID `json:"site"`
	// Turn grows with every change within an epoch.
	Turn  uint64    `json:"turn,omitempty"`
	Since time.Time `json:"since,omitzero"` // the proposer's stamp, for people
	// Lost: the frontends there have failed for long enough, and it stands
	// nevertheless; Refused is why, so that it is recorded once.
	Lost    bool   `json:"lost,omitempty"`
	Refused string `json:"refused,omitempty"`
}

// Leads is where a service's name leads, and under which token: to its entry,
// or else to the site that is active. There is none before the first
// activation. While a move is under way it stays what it was.
func (s State) Leads(service draas.ServiceID) (draas.SiteID, runbook.Token, bool) {
	sv := s.Services[s.unitOf(service)]
	if sv == nil || sv.Epoch == 0 || sv.Active == "" {
		return "", runbook.Token{}, false
	}
	if e, has := sv.Entries[service]; has {
		return e.Site, runbook.Token{Epoch: sv.Epoch, Turn: e.Turn}, true
	}
	return sv.Active, runbook.Token{Epoch: sv.Epoch}, true
}

// heard takes how a member hears a frontend.
func (s *step) heard(o Observation) {
	if s.s.Version < 3 || o.Service != "" || o.Peer != "" || !s.s.hasFrontend(o.Frontend) {
		return
	}
	m := s.s.Members[s.e.By].clone()
	if m.Frontends == nil {
		m.Frontends = make(map[string]Observation)
	}
	m.Frontends[o.Frontend] = o
	s.s.Members[s.e.By] = m
}

// hasFrontend reports whether users can enter through a frontend by the rules
// in force.
func (s *State) hasFrontend(name string) bool {
	for id := range s.Policy.Services {
		for _, ways := range s.rules(id).Ways {
			if slices.ContainsFunc(ways, func(w Way) bool { return slices.Contains(w.Frontends, name) }) {
				return true
			}
		}
	}
	return false
}
