// Package draas holds the nouns that every other package shares: members,
// sites, services, epochs, verdicts and clock readings.
//
// It is pure: no network, no files, no goroutines, no clock.
package draas

import (
	"errors"
	"fmt"
)

// MemberID names a daemon that votes: a site's or a witness's. It is the name
// in failover.toml and the common name of the member's certificate.
type MemberID string

// SiteID names one place that can serve. A site is run by the member of the
// same name.
type SiteID string

// Member is the member that runs the site.
func (s SiteID) Member() MemberID { return MemberID(s) }

// Site is the site that a member of role RoleSite runs.
func (m MemberID) Site() SiteID { return SiteID(m) }

// ServiceID names what users reach: one name with its checks, scheme and
// fence, that has exactly one active site or none.
type ServiceID string

// Epoch numbers the activations of a service. It only grows. Zero means that
// the service was never activated. It is the fencing token: receivers refuse
// an epoch below one they have seen.
//
// Its upper 32 bits are the generation: it grows when a survivor of a lost
// majority starts the cluster anew, so that whatever the old cluster may have
// granted unseen is below. It is zero until then.
type Epoch uint64

// EpochOf is epoch n of a generation.
func EpochOf(generation uint32, n uint32) Epoch { return Epoch(generation)<<32 | Epoch(n) }

// Generation is the generation that the epoch belongs to.
func (e Epoch) Generation() uint32 { return uint32(e >> 32) }

func (e Epoch) String() string {
	if g := e.Generation(); g != 0 {
		return fmt.Sprintf("%d.%d", g, uint32(e))
	}
	return fmt.Sprintf("%d", uint64(e))
}

// Incarnation tells two runs of a member's daemon apart. It is drawn at random
// at each start; zero means unknown.
type Incarnation uint64

// Role says what a member may do.
type Role string

// The roles.
const (
	RoleSite    Role = "site"    // can serve, and votes
	RoleWitness Role = "witness" // only votes; never serves or answers users
)

// Verdict is what somebody, or all together, believe of a service at a site
// or of another member.
type Verdict uint8

// The verdicts. Unknown is the zero value: what was never seen is not failed
// (DESIGN.md, rule 4).
const (
	Unknown Verdict = iota
	Healthy
	Suspect
	Failed
)

var verdictNames = [...]string{"unknown", "healthy", "suspect", "failed"}

func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict(%d)", uint8(v))
}

// MarshalText writes the verdict's name.
func (v Verdict) MarshalText() ([]byte, error) {
	if int(v) >= len(verdictNames) {
		return nil, fmt.Errorf("verdict %d has no name", uint8(v))
	}
	return []byte(verdictNames[v]), nil
}

// UnmarshalText reads a verdict's name.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdictNames {
		if name == string(text) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not a verdict (one of %v)", text, verdictNames)
}

// FenceKind says what makes serving stop at a site when its permit ends.
type FenceKind string

// The kinds of fence. All but FenceNone outlive the daemon: the guard, a
// process of its own, holds the deadline.
const (
	FenceNone    FenceKind = "none"    // nothing: excludes automatic unplanned moves
	FencePath    FenceKind = "path"    // the guard's own relay is the only way in
	FenceExec    FenceKind = "exec"    // commands of the operator's
	FenceSystemd FenceKind = "systemd" // stops and starts a unit
	FenceKernel  FenceKind = "kernel"  // nftables drops the service's ports
	FenceDevice  FenceKind = "device"  // others switch the site's hosts off
)

// OutlivesDaemon reports whether the old site is stopped also when the daemon
// that renews its permit is killed or stopped: by the guard, or by others.
func (k FenceKind) OutlivesDaemon() bool {
	switch k {
	case FencePath, FenceExec, FenceSystemd, FenceKernel, FenceDevice:
		return true
	}
	return false
}

// LeaseLoss says what a site does when its permit ends unrenewed.
type LeaseLoss string

// What a site can do when its permit ends.
const (
	// LeaseLossFence closes the site: nobody serves until it is decided anew.
	LeaseLossFence LeaseLoss = "fence"
	// LeaseLossServe serves on, for those to whom a needless stop is worse
	// than the risk. The end of the lease then proves nothing, so that a
	// take-over needs a device fence or a person's word.
	LeaseLossServe LeaseLoss = "serve"
)

// Sentinel errors that cross packages.
var (
	// ErrStaleEpoch is returned by a receiver that has seen a later epoch.
	ErrStaleEpoch = errors.New("stale epoch")
	// ErrExpired is returned when a permit or a deadline has passed.
	ErrExpired = errors.New("expired")
)
