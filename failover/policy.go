package failover

import (
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
	Hold    time.Duration `json:"hold"`    // no automatic move after a completed one
	// Start is how long a site may take after its activation until it
	// answers; before that, its failure does not undo the move.
	Start time.Duration `json:"start"`
	// Steps are the effects that move the users, in order; who carries them
	// out follows from the move.
	Steps []runbook.Step `json:"steps"`
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

func (p ServicePolicy) has(site draas.SiteID) bool {
	for _, s := range p.Sites {
		if s == site {
			return true
		}
	}
	return false
}
