package failover

import (
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Policy is the part of failover.toml that decisions rest on. It stands in
// the log, so that every member decides by the same rules.
type Policy struct {
	Digest   string                            `json:"digest"` // of the file it came from
	Members  []MemberPolicy                    `json:"members"`
	Services map[draas.ServiceID]ServicePolicy `json:"services"`
	// Retarget is how long a move waits for a target that is no longer fit
	// before it turns back, and how long a planned move waits for the old
	// holder to hand over.
	Retarget time.Duration `json:"retarget"`
	// Take is how long a target may take to be active when the old permit is
	// known to be over, before the move turns back; zero: as long as it seems
	// fit. It has to leave room for an election of the log's leader.
	Take time.Duration `json:"take,omitempty"`
}

// MemberPolicy is one member as the decision sees it. Their order is the
// order of preference among the sites.
type MemberPolicy struct {
	ID     draas.MemberID `json:"id"`
	Role   draas.Role     `json:"role"`
	Domain string         `json:"domain"` // its failure domain
}

// ServicePolicy is one service as the decision sees it.
type ServicePolicy struct {
	Home      draas.SiteID    `json:"home"`
	Sites     []draas.SiteID  `json:"sites"` // where it can run, preferred first
	Automatic bool            `json:"automatic"`
	Fence     draas.FenceKind `json:"fence"`
	// Confirmations is k: how many failure domains must see a failure.
	Confirmations int `json:"confirmations"`
	// Warm says that the service runs at a standby site too, behind its
	// fence, so that its health there is known before it is needed.
	Warm    bool          `json:"warm"`
	Lease   draas.Lease   `json:"lease"`
	Renew   time.Duration `json:"renew"`
	Confirm time.Duration `json:"confirm"` // how long a failure must last
	// Hold is how long no automatic move follows a completed unplanned one. It
	// doubles with each that nobody has acknowledged, up to HoldMax.
	Hold    time.Duration `json:"hold"`
	HoldMax time.Duration `json:"hold_max,omitempty"`
	// LeastOutage is the outage worth a failover: shorter ones are sat out.
	LeastOutage time.Duration `json:"least_outage,omitempty"`
	// Restart is how long a restart at the active site may take: while its
	// daemon can be reached, that is cheaper than a move.
	Restart time.Duration `json:"restart,omitempty"`
	// A site where the service failed Flaps times is no target of an automatic
	// move; one failure is forgotten for every Steady without another. Zero
	// Flaps: no damping.
	Flaps  int           `json:"flaps,omitempty"`
	Steady time.Duration `json:"steady,omitempty"`
	// MaxLoss is how far behind a site's copy may be when it takes over; zero:
	// no such guard.
	MaxLoss     time.Duration   `json:"max_loss,omitempty"`
	OnLeaseLoss draas.LeaseLoss `json:"on_lease_loss,omitempty"` // empty: fence
	// Devices are the sites that others can switch off.
	Devices []draas.SiteID `json:"devices,omitempty"`
	// Parts are the services of a group, which move together under the group's
	// epoch. Empty: the service itself.
	Parts []draas.ServiceID `json:"parts,omitempty"`
	// Ways are, of each part whose name leads to frontends at one of several
	// sites, those sites, preferred first.
	Ways map[draas.ServiceID][]Way `json:"ways,omitempty"`
	// Start is how long a site may take after its activation until it
	// answers; before that, its failure does not undo the move.
	Start time.Duration `json:"start"`
	// Steps are the effects that move the users; After orders them, and who
	// carries them out follows from the move.
	Steps []runbook.Step `json:"steps"`
}

// Way is a site where users can enter: its frontends lead them to the active
// site, wherever that is.
type Way struct {
	Site      draas.SiteID `json:"site"`
	Frontends []string     `json:"frontends"` // by name, at least one
}

// Member finds a member's policy.
func (p *Policy) Member(id draas.MemberID) (MemberPolicy, bool) {
	for _, m := range p.Members {
		if m.ID == id {
			return m, true
		}
	}
	return MemberPolicy{}, false
}

// PartsOf lists the services that a unit of decision is made of: those of a
// group, or the service itself.
func (p *Policy) PartsOf(unit draas.ServiceID) []draas.ServiceID {
	if parts := p.Services[unit].Parts; len(parts) > 0 {
		return parts
	}
	return []draas.ServiceID{unit}
}

// UnitOf is the unit that decides for a service: its group, or itself.
func (p *Policy) UnitOf(service draas.ServiceID) draas.ServiceID {
	for unit, s := range p.Services {
		if slices.Contains(s.Parts, service) {
			return unit
		}
	}
	return service
}

func (p ServicePolicy) has(site draas.SiteID) bool {
	return slices.Contains(p.Sites, site)
}
