// Package fence makes serving stop when a site's permit ends.
//
// The guard (`draasd guard`) is a process of its own that holds the deadlines:
// draasd moves them forward by renewals over a unix socket, and when the
// renewals stop, for whatever reason, the guard closes the fence by itself. It
// needs no network, no quorum and no draasd for that (DESIGN.md, rule 6).
//
// The kinds of fence are path, exec, systemd and kernel; docs/fence.md says
// what each can and cannot promise.
package fence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	draas "github.com/draasd/draas"
)

// State is what was observed of a fence. Unknown is the zero value: what could
// not be observed is not closed.
type State string

// The states.
const (
	Unknown State = "unknown"
	Closed  State = "closed" // no user reaches the service through what is fenced
	Open    State = "open"   // users may reach it
)

// Permit is what a fence is opened for: an epoch and the instant it ends.
type Permit struct {
	Epoch    draas.Epoch
	Deadline draas.Deadline
}

// Fence is one kind of fence for one service at one site.
//
// All methods are idempotent and are called by one goroutine at a time. They
// return soon after ctx ends.
type Fence interface {
	// Open lets users in. A fence that holds the deadline by itself returns
	// draas.ErrExpired, and is closed, when that has passed by the time Open
	// would take effect; for the others ctx ends with the permit. After any
	// other error the fence may be anything.
	Open(ctx context.Context, p Permit) error
	// Extend gives an open fence a later deadline. Where the fence's own
	// enforcement was lost (a foreign flush of the ruleset, a lost listener)
	// it restores it; it does not restart a service that somebody stopped.
	Extend(ctx context.Context, p Permit) error
	// Close shuts users out, those who are connected too. It may be called on
	// a closed fence.
	Close(ctx context.Context) error
	// State observes. Closed means observed closed, not "Close was called".
	// With Unknown comes an error that says why.
	State(ctx context.Context) (State, error)
	// Worst is the worst time to close, counted from the deadline: the margin
	// to take off the lease (draas.Lease.Margin).
	Worst() time.Duration
}

// Sentinel errors of the guard. Two more cross the socket: draas.ErrStaleEpoch
// and draas.ErrExpired.
var (
	// ErrTooFar refuses a deadline more than MaxAhead away: nonsense.
	ErrTooFar = errors.New("deadline too far ahead")
	// ErrUnknownService refuses a service that the guard was not started with.
	ErrUnknownService = errors.New("service not guarded")
	// ErrNotReady refuses to open a fence that was not yet observed closed
	// since the guard started.
	ErrNotReady = errors.New("fence not yet observed closed")
	// ErrNotClosed says that closing could not be confirmed. The guard goes
	// on trying.
	ErrNotClosed = errors.New("fence not confirmed closed")
	// ErrNotOpened says that the deadline was taken but the fence could not be
	// opened. The guard goes on trying while the permit lives.
	ErrNotOpened = errors.New("fence not opened")
	// ErrBadRequest refuses what is not a request.
	ErrBadRequest = errors.New("bad request")
	// ErrGuardRunning is returned by Run when another guard holds the socket.
	ErrGuardRunning = errors.New("another guard is running")
)

// DefaultMargin is the worst time to close that a kind claims when none is
// given. For exec and systemd it depends on the service: measure it.
func DefaultMargin(kind draas.FenceKind) time.Duration {
	switch kind {
	case draas.FencePath, draas.FenceKernel:
		return 100 * time.Millisecond
	}
	return time.Second
}

// Spec describes a fence of any kind, as the service's file does.
type Spec struct {
	Service draas.ServiceID
	Site    draas.SiteID
	Kind    draas.FenceKind
	Margin  time.Duration // zero: DefaultMargin

	Listen, Forward string // path: host:port

	Close, Open, Check []string // exec: argv; no shell

	Unit      string // systemd
	Systemctl string // systemd: zero: "systemctl"

	Ports   []uint16     // kernel
	Proto   string       // kernel: tcp (default), udp, both
	Protect []netip.Addr // kernel: destinations; none: every local address
	XDP     []string     // kernel: interfaces with the backstop
}

// Host is what the fences of one machine share.
type Host struct {
	Clock    Clock        // zero: SystemClock
	Log      *slog.Logger // zero: none
	Backstop *Backstop    // for kernel fences with XDP
}

// Entry is a service that a guard holds.
type Entry struct {
	Service draas.ServiceID
	Kind    draas.FenceKind
	Fence   Fence
	// Audit is how often the guard looks whether the fence still is as it
	// left it; zero means a second.
	Audit time.Duration
	// Config tells what the fence was built from: an entry with the same
	// Config and Kind is the same fence to Guard.Update. Empty is never the
	// same. It is not shown to anybody.
	Config string
}

// Entry builds the fence that the spec describes.
func (s Spec) Entry(h Host) (Entry, error) {
	if s.Margin == 0 {
		s.Margin = DefaultMargin(s.Kind)
	}
	e := Entry{Service: s.Service, Kind: s.Kind, Config: fmt.Sprintf("%#v", s)}
	clock, log := h.Clock, h.Log
	if clock == nil {
		clock = SystemClock{}
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("service", s.Service)
	var err error
	switch s.Kind {
	case draas.FencePath:
		e.Audit = time.Second
		e.Fence, err = NewPath(PathConfig{Listen: s.Listen, Forward: s.Forward, Margin: s.Margin, Clock: clock, Log: log})
	case draas.FenceExec:
		e.Audit = 5 * time.Second
		e.Fence, err = NewExec(ExecConfig{Service: s.Service, Site: s.Site, Close: s.Close, Open: s.Open, Check: s.Check, Margin: s.Margin, Log: log})
	case draas.FenceSystemd:
		e.Audit = 5 * time.Second
		e.Fence, err = NewSystemd(SystemdConfig{Unit: s.Unit, Systemctl: s.Systemctl, Margin: s.Margin, Log: log})
	case draas.FenceKernel:
		e.Audit = 200 * time.Millisecond
		e.Fence, err = NewKernel(KernelConfig{Service: s.Service, Ports: s.Ports, Proto: s.Proto, Protect: s.Protect,
			XDP: s.XDP, Backstop: h.Backstop, Margin: s.Margin, Clock: clock})
	default:
		err = fmt.Errorf("kind %q has nothing to guard", s.Kind)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("build fence of %s: %w", s.Service, err)
	}
	return e, nil
}
