// Package api is the control API of draasd: its wire types and its client.
// docs/api.md describes it for users.
package api

import (
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// The paths of the API. GET unless it says otherwise.
const (
	PathStatus  = "/v1/status"  // ?local=1: without asking the other members
	PathWatch   = "/v1/watch"   // a stream of Status, one JSON object a line
	PathWhy     = "/v1/why"     // ?service=NAME
	PathHistory = "/v1/history" // ?service=NAME&limit=N
	PathRequest = "/v1/request" // POST a Request
	PathReload  = "/v1/reload"  // POST nothing
	PathLeave   = "/v1/leave"   // POST nothing
	PathForce   = "/v1/force"   // POST a Force
	PathFollow  = "/v1/follow"  // POST a Follow
	PathSync    = "/v1/sync"    // also POST a SyncTrigger
)

// MaxRequest bounds the body of a request in bytes.
const MaxRequest = 16 << 10

// MaxFollow bounds the body of a Follow in bytes.
const MaxFollow = 1 << 20

// Error is the body of every answer that is not 2xx.
type Error struct {
	Error string `json:"error"`
}

// Status is the whole picture as one member has it.
type Status struct {
	Cluster   string         `json:"cluster"`
	ClusterID string         `json:"cluster_id"`
	Self      draas.MemberID `json:"self"`
	At        time.Time      `json:"at"`
	// Leader is empty when this member knows none: then nothing can be
	// decided and permits run out.
	Leader  draas.MemberID `json:"leader"`
	Term    uint64         `json:"term"`
	Applied uint64         `json:"applied"`
	// Generation is how often the cluster was started anew from one survivor.
	Generation uint64 `json:"generation"`
	// Version is the version of the decision by which all members decide.
	Version int            `json:"version"`
	Policy  string         `json:"policy"` // digest of the rules in force
	Profile string         `json:"profile"`
	Members []MemberStatus `json:"members"`
	// Log is who takes part in the replicated log, by raft id: as the leader
	// knows it where it could be asked, else as this member does.
	Log      []LogMember     `json:"log"`
	Services []ServiceStatus `json:"services"`
	Reported []Reported      `json:"reported"`
	// Reload is what became of the file when it was read again last; nil when
	// it was not since the daemon's start.
	Reload   *Reload  `json:"reload,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Reload is what became of reading failover.toml again.
type Reload struct {
	File string    `json:"file"`
	At   time.Time `json:"at"`
	// Refused lists what is wrong with it: the one in use stays.
	Refused []string `json:"refused,omitempty"`
	Digest  string   `json:"digest"`
	// InForce says that all members go by it.
	InForce bool `json:"in_force"`
	// Waiting are the members that have not read it yet.
	Waiting []draas.MemberID `json:"waiting,omitempty"`
}

// MemberStatus is what the log says of a member.
type MemberStatus struct {
	ID         draas.MemberID `json:"id"`
	Role       draas.Role     `json:"role"`
	Domain     string         `json:"domain"`
	Started    bool           `json:"started"`
	SameConfig bool           `json:"same_config"`
	// SeenBy is how the others see its daemon.
	SeenBy map[draas.MemberID]draas.Verdict `json:"seen_by"`
}

// LogRole is what a copy of the log counts for.
type LogRole string

// The roles of a copy of the log.
const (
	LogVoter   LogRole = "voter"
	LogLearner LogRole = "learner" // gets the log, and does not count yet
	LogJoining LogRole = "joining" // not let in yet
	LogRemoved LogRole = "removed"
)

// LogMember is one copy of the replicated log. While a member is replaced
// there are two of one name.
type LogMember struct {
	ID     draas.MemberID `json:"id"`
	RaftID uint64         `json:"raft_id"`
	Role   LogRole        `json:"role"`
	// HeardMS is how long ago it was heard last; negative: never.
	HeardMS int64 `json:"heard_ms"`
	// Match is up to where its log is known to be the same; only a leader
	// knows it of others.
	Match    uint64 `json:"match,omitempty"`
	Snapshot bool   `json:"snapshot,omitempty"` // it is being sent one
	Leaving  bool   `json:"leaving,omitempty"`
	// Quarantine tells why nothing of it is listened to.
	Quarantine string `json:"quarantine,omitempty"`
	// Refused tells why it is not let in; only it knows.
	Refused string `json:"refused,omitempty"`
}

// ServiceStatus is what is decided of a service, and what the vantages see.
type ServiceStatus struct {
	ID        draas.ServiceID `json:"id"`
	Phase     failover.Phase  `json:"phase"`
	Active    draas.SiteID    `json:"active"`
	Home      draas.SiteID    `json:"home"`
	Epoch     draas.Epoch     `json:"epoch"`
	Scheme    string          `json:"scheme"`
	Fence     draas.FenceKind `json:"fence"`
	Automatic bool            `json:"automatic"`
	Move      *failover.Move  `json:"move,omitempty"`
	Last      *failover.Move  `json:"last,omitempty"`
	Views     []View          `json:"views"`
	// Parts are the services of a group, which is what is decided on then.
	Parts []Part `json:"parts,omitempty"`
	// Pause stands while automatic moves are paused.
	Pause *failover.Pause `json:"pause,omitempty"`
	// Unacked counts automatic moves that nobody has acknowledged: each makes
	// the time longer in which no further one is made.
	Unacked int     `json:"unacked,omitempty"`
	Lags    []Lag   `json:"lags,omitempty"`
	Flaps   []Flaps `json:"flaps,omitempty"`
	// Entries are where users come in, of services with frontends at several
	// sites.
	Entries []Entry `json:"entries,omitempty"`
}

// Entry is where users of a service come in: at the frontends of a site, which
// lead them on to the active one.
type Entry struct {
	Service draas.ServiceID `json:"service"`
	Site    draas.SiteID    `json:"site"`
	Turn    uint64          `json:"turn,omitempty"` // grows with every change within an epoch
	Since   time.Time       `json:"since"`
	// Operator asked for it; empty when nobody did.
	Operator string `json:"operator,omitempty"`
	// Refused is why it stands although no frontend is heard there.
	Refused string `json:"refused,omitempty"`
}

// Part is one service of a group.
type Part struct {
	ID     draas.ServiceID `json:"id"`
	Scheme string          `json:"scheme"`
	Fence  draas.FenceKind `json:"fence"`
}

// Lag is how far a site's copy is behind, as the decision knows it.
type Lag struct {
	Site     draas.SiteID `json:"site"`
	Known    bool         `json:"known"`
	BehindMS int64        `json:"behind_ms"`
}

// Flaps is how often a site's service failed of late: at the limit no
// automatic move goes there.
type Flaps struct {
	Site     draas.SiteID `json:"site"`
	Failures int          `json:"failures"`
	Limit    int          `json:"limit"`
}

// View is one vantage's verdict of a service at a site.
type View struct {
	// Service is set for a part of a group.
	Service draas.ServiceID `json:"service,omitempty"`
	Site    draas.SiteID    `json:"site"`
	Vantage draas.MemberID  `json:"vantage"`
	Verdict draas.Verdict   `json:"verdict"`
	Class   string          `json:"class,omitempty"`
	Detail  string          `json:"detail,omitempty"`
}

// Reported is what one member says of itself, beside what is decided.
type Reported struct {
	Member  draas.MemberID `json:"member"`
	Error   string         `json:"error,omitempty"` // it could not be asked
	Applied uint64         `json:"applied"`
	Leader  draas.MemberID `json:"leader"`
	InTouch bool           `json:"in_touch"`
	Fences  []FenceStatus  `json:"fences,omitempty"`
	// Users is what leads users to the services that are active here, as it
	// was seen last.
	Users []UserPath `json:"users,omitempty"`
	// Frontends are those of the file, as this member has heard of them.
	Frontends []FrontendSeen `json:"frontends,omitempty"`
	// VIPs are the virtual IPs of the file, as this member knows of them.
	VIPs []VIPSeen `json:"vips,omitempty"`
	// Suspicions counts the suspect verdicts of this member's own probes
	// since it started.
	Suspicions uint64 `json:"suspicions"`
	// Version is the newest version of the decision that it can step by.
	Version int `json:"version,omitempty"`
	// Sync is how it carries the active site's cloud to its own, if it ever does.
	Sync *SyncBrief `json:"sync,omitempty"`
	// CertificateEnds is when its certificate, or the CA's, ends.
	CertificateEnds time.Time `json:"certificate_ends,omitzero"`
}

// UserPath is one of the ways by which users find a service: what a step of
// its last move has made.
type UserPath struct {
	Service draas.ServiceID `json:"service"`
	Step    string          `json:"step"`
	Site    draas.SiteID    `json:"site,omitempty"` // where it has to lead
	// AsDecided is yes, no or unknown.
	AsDecided string    `json:"as_decided"`
	Evidence  string    `json:"evidence,omitempty"`
	Since     time.Time `json:"since"` // when it was first seen so
	// Repairs is how often it was put right within the last hour.
	Repairs int `json:"repairs,omitempty"`
}

// FrontendFresh is how long a frontend's word counts: two lost requests and a
// half.
const FrontendFresh = 3 * time.Second

// FrontendSeen is what a frontend last said of itself to a member.
type FrontendSeen struct {
	Frontend string `json:"frontend"`
	// HeardMS is how long ago; negative: not since the member's start.
	HeardMS  int64          `json:"heard_ms"`
	Services []FollowReport `json:"services,omitempty"`
}

// FenceStatus is what a site's guard says of one service, and the permit that
// the site's daemon holds.
type FenceStatus struct {
	Service      draas.ServiceID `json:"service"`
	State        string          `json:"state"` // open, closed, unknown
	Epoch        draas.Epoch     `json:"epoch"`
	PermitLeftMS int64           `json:"permit_left_ms"`
	// Upsets is how often the fence was found not as the guard had left it,
	// and LastUpset how it was found last.
	Upsets    int    `json:"upsets,omitempty"`
	LastUpset string `json:"last_upset,omitempty"`
	Error     string `json:"error,omitempty"`
}

// Why answers why a service is where it is and what would have to change for
// it to move by itself.
type Why struct {
	Service draas.ServiceID `json:"service"`
	Phase   failover.Phase  `json:"phase"`
	Active  draas.SiteID    `json:"active"`
	Epoch   draas.Epoch     `json:"epoch"`
	// Now holds every clause of the policy against the present facts.
	Now []failover.Reason `json:"now"`
	// Decisions are the latest decisions and refusals, newest first, with the
	// moves of hybrids that were complete without a half.
	Decisions []failover.Record `json:"decisions"`
}

// Request asks for a move.
type Request struct {
	Service draas.ServiceID `json:"service"`
	// Site is where to move; empty lets draasd choose (switchover, failover),
	// and is ignored by failback, which goes home.
	Site draas.SiteID `json:"site,omitempty"`
	failover.Request
}

// Answer is the outcome of a request: a decision or a refusal, with reasons.
type Answer struct {
	Accepted bool            `json:"accepted"`
	Record   failover.Record `json:"record"`
}

// Force asks the survivor of a lost majority to start the cluster anew,
// alone, under the next generation.
type Force struct {
	// OldSiteIsOff is the operator's word that the members that are lost do not
	// serve and will not: no program can know it.
	OldSiteIsOff bool   `json:"old_site_is_off"`
	Operator     string `json:"operator"`
	Reason       string `json:"reason,omitempty"`
}

// Done is the body of an answer that says no more than that it was taken up.
type Done struct {
	Text string `json:"text"`
}

// PageEvent says whether a page calls somebody or takes a call back.
type PageEvent string

// The events of a page.
const (
	PageAlarm PageEvent = "alarm" // a person is needed
	PageOver  PageEvent = "over"  // not any more
)

// Page is what the pager's command gets on its standard input.
type Page struct {
	Event PageEvent `json:"event"`
	// Key is the same for all pages of one cause, whichever member sends them.
	Key     string          `json:"key"`
	Cluster string          `json:"cluster"`
	Member  draas.MemberID  `json:"member"` // that sends it
	Service draas.ServiceID `json:"service,omitempty"`
	At      time.Time       `json:"at"`
	Since   time.Time       `json:"since"` // when this member first saw the cause
	Count   int             `json:"count"` // of pages for the cause, this one included
	Text    string          `json:"text"`
	// Reasons are what stands against an automatic move, where that is why.
	Reasons []failover.Reason `json:"reasons,omitempty"`
	// Command is the command line to run when what it says is what you want.
	Command string `json:"command,omitempty"`
}
