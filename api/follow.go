package api

import (
	"context"
	"fmt"

	"github.com/draasd/draas"
)

// Follow is what a frontend says of itself, and asks what is decided.
type Follow struct {
	Frontend string `json:"frontend"`
	// Tag is that of the last answer: the next one comes when it would differ,
	// or after WaitMS.
	Tag      string           `json:"tag,omitempty"`
	WaitMS   int64            `json:"wait_ms,omitempty"`
	Services []FollowReport   `json:"services"`
	Evidence []FollowEvidence `json:"evidence,omitempty"`
}

// FollowReport is how a frontend stands to a service.
type FollowReport struct {
	Service draas.ServiceID `json:"service"`
	Epoch   draas.Epoch     `json:"epoch"`
	Site    draas.SiteID    `json:"site,omitempty"`
	State   string          `json:"state"` // open, wait or shut
	Reason  string          `json:"reason,omitempty"`
	Flights int64           `json:"flights"` // requests under way to the site
	Held    int64           `json:"held"`    // requests that wait
}

// FollowEvidence is what a frontend saw of a back end. It asks for a look and
// is no vote.
type FollowEvidence struct {
	Service draas.ServiceID `json:"service"`
	Site    draas.SiteID    `json:"site"`
	Epoch   draas.Epoch     `json:"epoch"`
	Class   string          `json:"class"`
}

// Led is the answer: what is decided, and for how long it holds.
type Led struct {
	Member draas.MemberID `json:"member"`
	Tag    string         `json:"tag"`
	// WaitedNS is how long the request had waited when this was made.
	WaitedNS int64        `json:"waited_ns"`
	Policy   string       `json:"policy"` // digest of the file in force
	Services []LedService `json:"services"`
}

// LedService is what is decided on a service that frontends serve.
type LedService struct {
	Service  draas.ServiceID `json:"service"`
	Epoch    draas.Epoch     `json:"epoch"`
	Active   draas.SiteID    `json:"active,omitempty"`
	Moving   bool            `json:"moving,omitempty"`   // the epoch is revoked
	Released bool            `json:"released,omitempty"` // and its holder has closed
	// PermitNS is how long the site may be led to, as of this answer.
	PermitNS int64 `json:"permit_ns"`
}

// Follow tells a member what a frontend does and asks what is decided.
func (c *Client) Follow(ctx context.Context, f Follow) (*Led, error) {
	var l Led
	if err := c.post(ctx, PathFollow, f, &l); err != nil {
		return nil, fmt.Errorf("follow: %w", err)
	}
	return &l, nil
}
