package api

import (
	"context"
	"fmt"
	"time"
)

// PathHold is where a frontend asks a member for its grant of a virtual IP, or
// gives it back: POST a Hold.
const PathHold = "/v1/hold"

// MaxHold bounds a Hold in bytes.
const MaxHold = 8 << 10

// Hold is a frontend's question about one virtual IP (see vip.Ask).
type Hold struct {
	VIP      string `json:"vip"`
	Frontend string `json:"frontend"`
	Session  uint64 `json:"session"`
	Seq      uint64 `json:"seq"`
	Want     bool   `json:"want"`
	// WaitMS is how long the question may wait for the address to become free.
	WaitMS int64 `json:"wait_ms,omitempty"`
	// Has says that it has the address, and Trouble why it cannot have it.
	Has     bool   `json:"has,omitempty"`
	Trouble string `json:"trouble,omitempty"`
	// Stations are the hardware addresses of its interfaces: others that find
	// one of them at an address know whose it is.
	Stations []string `json:"stations,omitempty"`
}

// Granted is the answer (see vip.Answer).
type Granted struct {
	Member   uint64        `json:"member"`
	Granted  bool          `json:"granted"`
	Lease    time.Duration `json:"lease_ns,omitempty"`
	Holder   string        `json:"holder,omitempty"`
	Left     time.Duration `json:"left_ns,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Voters   []uint64      `json:"voters,omitempty"`
	Outgoing []uint64      `json:"outgoing,omitempty"`
	Applied  uint64        `json:"applied"`
	// Waited is how long the question had waited when it was answered.
	Waited time.Duration `json:"waited_ns"`
	// Stations are those of the other frontends that may have it.
	Stations map[string][]string `json:"stations,omitempty"`
}

// Hold asks a member for its grant of a virtual IP.
func (c *Client) Hold(ctx context.Context, h Hold) (*Granted, error) {
	var g Granted
	if err := c.post(ctx, PathHold, h, &g); err != nil {
		return nil, fmt.Errorf("ask for vip %s: %w", h.VIP, err)
	}
	return &g, nil
}

// What a Hold may say.
const (
	MaxStations = 32
	MaxTrouble  = 512 // bytes
)

// VIPSeen is what a member knows of a virtual IP.
type VIPSeen struct {
	VIP       string   `json:"vip"`
	Addresses []string `json:"addresses"`
	// Granted is to whom this member has granted it; empty: to nobody. Who has
	// it was granted it by a majority of the members.
	Granted string      `json:"granted,omitempty"`
	Holders []VIPHolder `json:"holders"`
}

// VIPHolder is a frontend that may have it.
type VIPHolder struct {
	Frontend string `json:"frontend"`
	HeardMS  int64  `json:"heard_ms"` // how long ago it asked here; negative: never
	// Has is what it says itself, and Trouble why it cannot have it.
	Has     bool   `json:"has,omitempty"`
	Trouble string `json:"trouble,omitempty"`
}
