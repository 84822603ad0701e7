// Package stamp tells a test service under which epoch it answers.
package stamp

import (
	"context"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
)

const (
	// again is the pause before the daemon is followed again.
	again = 100 * time.Millisecond
	// patience bounds how long an answer waits for the daemon's word.
	patience = time.Second
)

// Epoch is the latest one under which a site was active, as the site's daemon
// says. It stands while the daemon says nothing.
type Epoch struct {
	client  *api.Client
	service draas.ServiceID
	site    draas.SiteID

	mu     sync.Mutex
	seen   draas.Epoch // the latest of any site
	active bool        // the site is, under that
	epoch  draas.Epoch
}

// New is of a service at a site, whose daemon has its socket there.
func New(socket string, service draas.ServiceID, site draas.SiteID) *Epoch {
	return &Epoch{client: api.Unix(socket), service: service, site: site}
}

// Follow learns what the daemon says, until ctx ends.
func (e *Epoch) Follow(ctx context.Context) {
	defer e.client.Close()
	for ctx.Err() == nil {
		// What is wrong does not matter: it is tried again.
		_ = e.client.Watch(ctx, func(s *api.Status) error {
			e.learn(s)
			return nil
		})
		select {
		case <-time.After(again):
		case <-ctx.Done():
		}
	}
}

// Now is the epoch for an answer to a request that has come; zero: none was
// ever known. A site that is not active, as far as was heard, is asked for no
// answers, unless what opened its fence anew knows of a later epoch than this
// process. The daemon knew it before the fence opened, so that it is asked:
// else the site's first answers would seem to be of its reign before.
func (e *Epoch) Now(ctx context.Context) draas.Epoch {
	if epoch, active := e.known(); active {
		return epoch
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if s, err := e.client.Status(ctx, true); err == nil {
		e.learn(s)
	}
	epoch, _ := e.known()
	return epoch
}

func (e *Epoch) known() (epoch draas.Epoch, active bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.epoch, e.active
}

// learn takes what a status says, unless something later is known.
func (e *Epoch) learn(s *api.Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, sv := range s.Services {
		if sv.ID != e.service || sv.Epoch < e.seen {
			continue
		}
		e.seen, e.active = sv.Epoch, sv.Active == e.site
		if e.active {
			e.epoch = sv.Epoch
		}
	}
}
