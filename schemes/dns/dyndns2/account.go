package dyndns2

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/draasd/draas/runbook"
)

// restTime: "Retry the update no sooner 30 minutes" (No-IP, of 911).
const restTime = 30 * time.Minute

// order is one request: the addresses that a host should get at a token.
type order struct {
	host   string
	values string // as myip takes them
	token  runbook.Token
}

// Account remembers what a service has been told of an account's hosts, and
// decides by the service's rules what it may still be told. It outlives the
// effects of one configuration after the other. It keeps no clock: what time it
// is comes in.
type Account struct {
	mu    sync.Mutex
	stops map[string]stop // by host; "" is the whole account
	rests bool
	since time.Time // when it began to rest
	told  map[string]record
}

// stop is why nothing is sent, until the credentials file is not what it was.
type stop struct {
	why   error
	state fileState
}

// record is the last success of a host.
type record struct {
	order
	at       time.Time
	noChange bool
}

// NewAccount remembers nothing.
func NewAccount() *Account {
	return &Account{stops: make(map[string]stop), told: make(map[string]record)}
}

// reopen lifts the stops: the configuration was loaded anew, so an operator has
// acted. The half hour of rest, and what the service was told, stay.
func (a *Account) reopen() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.stops)
}

// may decides about a request to a host whose authorities answer something
// else. told is that the service has confirmed it a moment ago: there is
// nothing to do but wait. An error says why nothing may be sent.
func (a *Account) may(o order, state fileState, lag time.Duration, now time.Time) (told bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, scope := range []string{"", o.host} {
		s, stopped := a.stops[scope]
		if !stopped {
			continue
		}
		if s.state == state {
			return false, fmt.Errorf("%w: %w", s.why, ErrStopped)
		}
		delete(a.stops, scope) // an operator has acted
	}
	if a.rests {
		if left := restTime - now.Sub(a.since); left > 0 {
			return false, fmt.Errorf("%v more: %w", left.Round(time.Second), ErrResting)
		}
		a.rests = false
	}
	last, known := a.told[o.host]
	switch {
	case !known || last.order != o:
		// At a later token somebody else may have moved the host in between.
		return false, nil
	case now.Sub(last.at) < lag:
		return true, nil
	case last.noChange:
		return false, fmt.Errorf("%s %s: %w", o.host, o.values, ErrBehind)
	}
	return false, nil // it stood there, and somebody changed it
}

// success notes good and nochg. A second nochg for the same addresses stops
// the host: another one gets it blocked.
func (a *Account) success(o order, code string, state fileState, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.told[o.host]
	a.told[o.host] = record{order: o, at: now, noChange: code == codeNoChange}
	if code == codeNoChange && last.noChange && last.values == o.values {
		return a.stop(o.host, fmt.Errorf("nochg for %s a second time: the service has these addresses, the list of authorities is wrong or they do not follow it", o.values), state)
	}
	return nil
}

// failure notes a code that is no success and gives it as an error.
func (a *Account) failure(o order, code string, state fileState, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if code == codeFatal || code == codeDNSError {
		a.rests, a.since = true, now
		return fmt.Errorf("%s: %w", code, ErrResting)
	}
	scope := o.host
	if ofAccount[code] {
		scope = ""
	}
	text, known := advice[code]
	if !known {
		text = code + ": a return code that draas does not know"
	}
	return a.stop(scope, errors.New(text), state)
}

// refuse stops a host for what is not a return code.
func (a *Account) refuse(o order, why error, state fileState) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stop(o.host, why, state)
}

func (a *Account) stop(scope string, why error, state fileState) error {
	a.stops[scope] = stop{why: why, state: state}
	return fmt.Errorf("%w: %w", why, ErrStopped)
}

// confirmed reports whether the service has said that the host has these
// addresses at this token.
func (a *Account) confirmed(o order) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.told[o.host].order == o
}

// hindrance says why nothing is sent for a host; empty if nothing hinders.
func (a *Account) hindrance(host string, now time.Time) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, scope := range []string{"", host} {
		if s, stopped := a.stops[scope]; stopped {
			return fmt.Sprintf("stopped: %v: %v", s.why, ErrStopped)
		}
	}
	if left := restTime - now.Sub(a.since); a.rests && left > 0 {
		return fmt.Sprintf("resting for %v more: %v", left.Round(time.Second), ErrResting)
	}
	return ""
}
