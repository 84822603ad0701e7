package api

import (
	"context"
	"fmt"
	"time"

	"github.com/draasd/draas"
)

// PathFrontend is where a frontend, on its own control socket, says how it is.
const PathFrontend = "/v1/frontend"

// PathYield is where a frontend, on its own control socket, gives a virtual IP up:
// POST a Yield.
const PathYield = "/v1/yield"

// FrontendStatus is how a frontend is.
type FrontendStatus struct {
	Frontend string            `json:"frontend"`
	Kind     string            `json:"kind"`
	Started  time.Time         `json:"started"`
	Policy   string            `json:"policy"` // digest of its file
	Members  []FollowedMember  `json:"members"`
	Services []FrontendService `json:"services"`
	VIPs     []FrontendVIP     `json:"vips,omitempty"`
	Reload   *Reload           `json:"reload,omitempty"`
	// LogDropped counts lines of the access log that could not be written in
	// time.
	LogDropped int64    `json:"log_dropped,omitempty"`
	Warnings   []string `json:"warnings,omitempty"`
}

// FollowedMember is a member that the frontend follows.
type FollowedMember struct {
	Member  draas.MemberID `json:"member"`
	HeardMS int64          `json:"heard_ms"` // how long ago; negative: never
	Error   string         `json:"error,omitempty"`
	// SameConfig says that the member goes by the same file.
	SameConfig bool `json:"same_config"`
}

// FrontendService is one service at a frontend. The counters are since its
// start.
type FrontendService struct {
	Service draas.ServiceID `json:"service"`
	Mode    string          `json:"mode"`
	Listen  []string        `json:"listen"`
	State   string          `json:"state"` // open, wait or shut
	Reason  string          `json:"reason,omitempty"`
	Site    draas.SiteID    `json:"site,omitempty"`
	Epoch   draas.Epoch     `json:"epoch"`
	// Stands is where this frontend stands, of a service whose users enter by
	// site: when it leads elsewhere, it forwards.
	Stands   draas.SiteID `json:"stands,omitempty"`
	Outlives bool         `json:"outlives"` // leads on when its permit has ended
	// PermitLeftMS is how long it may lead to the site, unless it outlives.
	PermitLeftMS int64 `json:"permit_left_ms"`
	Flights      int64 `json:"flights"` // requests under way
	Waiting      int64 `json:"waiting"` // requests that wait now

	Connections int64 `json:"connections"` // of clients, now
	Accepted    int64 `json:"accepted"`
	Rejected    int64 `json:"rejected"` // over a limit, or from nobody's source
	Bad         int64 `json:"bad"`      // requests that could not be understood
	Held        int64 `json:"held"`
	Replayed    int64 `json:"replayed"`
	Shed        int64 `json:"shed"` // answered 503
	Dropped     int64 `json:"dropped"`
	// Stalls count those that waited: entry i took less than 2^i ms, the last
	// one anything longer.
	Stalls         []int64        `json:"stalls"`
	LongestStallMS float64        `json:"longest_stall_ms"`
	Sites          []FrontendSite `json:"sites"`
	// Driven is where a proxy of others stands; nil for our own.
	Driven *FrontendDriven `json:"driven,omitempty"`
}

// FrontendSite are the counters of a service's back ends at one site.
type FrontendSite struct {
	Site     draas.SiteID     `json:"site"`
	Requests int64            `json:"requests"`          // connections in mode tcp
	Answers  map[string]int64 `json:"answers,omitempty"` // by class: 2xx
	Errors   map[string]int64 `json:"errors,omitempty"`  // by class: refused, reset, ...
	In       int64            `json:"in"`                // bytes from clients
	Out      int64            `json:"out"`               // bytes to clients
}

// FrontendDriven is how a proxy of others was last seen.
type FrontendDriven struct {
	Site     draas.SiteID `json:"site,omitempty"` // empty: it leads nowhere
	Draining bool         `json:"draining,omitempty"`
	Known    bool         `json:"known"` // it could be looked at
	Repairs  int64        `json:"repairs"`
	Error    string       `json:"error,omitempty"`
}

// Frontend asks a frontend how it is.
func (c *Client) Frontend(ctx context.Context) (*FrontendStatus, error) {
	var s FrontendStatus
	if err := c.get(ctx, PathFrontend, &s); err != nil {
		return nil, fmt.Errorf("ask for the frontend's status: %w", err)
	}
	return &s, nil
}

// FrontendVIP is how a frontend stands to a virtual IP that it may have.
type FrontendVIP struct {
	VIP   string    `json:"vip"`
	Has   bool      `json:"has"`
	Since time.Time `json:"since"`
	SetBy string    `json:"set_by"` // draas or keepalived
	// Holder is who has it as a majority of the members say; empty: not known.
	Holder      string            `json:"holder,omitempty"`
	LeaseLeftMS int64             `json:"lease_left_ms"`
	Trouble     string            `json:"trouble,omitempty"`
	Addresses   []FrontendAddress `json:"addresses,omitempty"`
}

// FrontendAddress is one of its addresses as it was seen last on this host.
type FrontendAddress struct {
	Address   string `json:"address"`
	Interface string `json:"interface"`
	Present   bool   `json:"present"`
	// Conflict is the hardware address of another host that has it too.
	Conflict string `json:"conflict,omitempty"`
}

// Yield names a virtual IP that the frontend is to give up.
type Yield struct {
	VIP string `json:"vip"`
}

// Yielded is who has it now: the frontend itself, if nobody else took it.
type Yielded struct {
	VIP    string `json:"vip"`
	Holder string `json:"holder"`
}

// Yield has a frontend give a virtual IP up for another to take.
func (c *Client) Yield(ctx context.Context, vip string) (*Yielded, error) {
	var y Yielded
	if err := c.post(ctx, PathYield, Yield{VIP: vip}, &y); err != nil {
		return nil, fmt.Errorf("yield vip %s: %w", vip, err)
	}
	return &y, nil
}
