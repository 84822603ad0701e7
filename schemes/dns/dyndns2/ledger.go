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

// ledger holds what an account has been told, and decides by the service's
// rules what it may still be told. It keeps no clock: what time it is comes in.
type ledger struct {
	lag time.Duration // how long authorities may take to follow

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

func newLedger(lag time.Duration) *ledger {
	return &ledger{lag: lag, stops: make(map[string]stop), told: make(map[string]record)}
}

// may decides about a request to a host whose authorities answer something
// else. told is that the service has confirmed it a moment ago: there is
// nothing to do but wait. An error says why nothing may be sent.
func (l *ledger) may(o order, state fileState, now time.Time) (told bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, scope := range []string{"", o.host} {
		s, stopped := l.stops[scope]
		if !stopped {
			continue
		}
		if s.state == state {
			return false, fmt.Errorf("%w: %w", s.why, ErrStopped)
		}
		delete(l.stops, scope) // an operator has acted
	}
	if l.rests {
		if left := restTime - now.Sub(l.since); left > 0 {
			return false, fmt.Errorf("%v more: %w", left.Round(time.Second), ErrResting)
		}
		l.rests = false
	}
	last, known := l.told[o.host]
	switch {
	case !known || last.order != o:
		// At a later token somebody else may have moved the host in between.
		return false, nil
	case now.Sub(last.at) < l.lag:
		return true, nil
	case last.noChange:
		return false, fmt.Errorf("%s %s: %w", o.host, o.values, ErrBehind)
	}
	return false, nil // it stood there, and somebody changed it
}

// success notes good and nochg. A second nochg for the same addresses stops
// the host: another one gets it blocked.
func (l *ledger) success(o order, code string, state fileState, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.told[o.host]
	l.told[o.host] = record{order: o, at: now, noChange: code == codeNoChange}
	if code == codeNoChange && last.noChange && last.values == o.values {
		return l.stop(o.host, fmt.Errorf("nochg for %s a second time: the service has these addresses, the list of authorities is wrong or they do not follow it", o.values), state)
	}
	return nil
}

// failure notes a code that is no success and gives it as an error.
func (l *ledger) failure(o order, code string, state fileState, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if code == codeFatal || code == codeDNSError {
		l.rests, l.since = true, now
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
	return l.stop(scope, errors.New(text), state)
}

// refuse stops a host for what is not a return code.
func (l *ledger) refuse(o order, why error, state fileState) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stop(o.host, why, state)
}

func (l *ledger) stop(scope string, why error, state fileState) error {
	l.stops[scope] = stop{why: why, state: state}
	return fmt.Errorf("%w: %w", why, ErrStopped)
}

// confirmed reports whether the service has said that the host has these
// addresses at this token.
func (l *ledger) confirmed(o order) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told[o.host].order == o
}

// hindrance says why nothing is sent for a host; empty if nothing hinders.
func (l *ledger) hindrance(host string, now time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, scope := range []string{"", host} {
		if s, stopped := l.stops[scope]; stopped {
			return fmt.Sprintf("stopped: %v: %v", s.why, ErrStopped)
		}
	}
	if left := restTime - now.Sub(l.since); l.rests && left > 0 {
		return fmt.Sprintf("resting for %v more: %v", left.Round(time.Second), ErrResting)
	}
	return ""
}
