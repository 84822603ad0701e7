package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// reign is where a service is active, and since which epoch.
type reign struct {
	site  string
	epoch uint64
}

// reigns are what is decided of all services, as the witness has it.
func (o *operators) reigns(ctx context.Context) (map[string]reign, error) {
	s, err := o.status(ctx, witness)
	if err != nil {
		return nil, err
	}
	all := make(map[string]reign)
	for _, sv := range s.Services {
		all[string(sv.ID)] = reign{site: string(sv.Active), epoch: uint64(sv.Epoch)}
	}
	return all, nil
}

// each asks all members and returns the first error.
func (o *operators) each(ctx context.Context, ok func(*api.Status) error) error {
	for _, name := range members {
		s, err := o.status(ctx, name)
		if err == nil {
			err = ok(s)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// policy is the digest of the file that all members go by.
func (o *operators) policy(ctx context.Context) (digest string, err error) {
	err = o.each(ctx, func(s *api.Status) error {
		if digest == "" {
			digest = s.Policy
		}
		if s.Policy != digest {
			return errors.New("goes by another file")
		}
		return nil
	})
	return digest, err
}

// refusals tells which member has not refused the file that it read last, or
// has.
func (o *operators) refusals(ctx context.Context, want bool) error {
	return o.each(ctx, func(s *api.Status) error {
		if got := s.Reload != nil && len(s.Reload.Refused) > 0; got != want {
			return fmt.Errorf("its file is refused (%v): %+v", got, s.Reload)
		}
		return nil
	})
}

// certificates are the ends of all members' certificates, as one of them
// knows them.
func (o *operators) certificates(ctx context.Context, asked string) (map[string]time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	s, err := o.clients[asked].Status(ctx, false)
	if err != nil {
		return nil, err
	}
	ends := make(map[string]time.Time)
	for _, r := range s.Reported {
		ends[string(r.Member)] = r.CertificateEnds
	}
	return ends, nil
}

// healthy says who does not see a service well where it is active.
func (o *operators) healthy(ctx context.Context) error {
	s, err := o.status(ctx, witness)
	if err != nil {
		return err
	}
	for _, sv := range s.Services {
		for _, v := range sv.Views {
			if v.Site == sv.Active && v.Verdict != draas.Healthy {
				return fmt.Errorf("%s sees %s %s at %s: %s", v.Vantage, sv.ID, v.Verdict, v.Site, v.Detail)
			}
		}
	}
	return nil
}

// heldByPause says that since the path service was paused it was to move, and
// was not for no other reason.
func (o *operators) heldByPause(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	records, err := o.clients[witness].History(ctx, byPath, historyLimit)
	if err != nil {
		return err
	}
	return onlyPause(records)
}

// onlyPause looks from the latest record back to the pause. Operators are
// refused for reasons of their own in between.
func onlyPause(records []failover.Record) error {
	for _, rec := range slices.Backward(records) {
		if rec.Kind == failover.RecordPause {
			break
		}
		against := slices.DeleteFunc(slices.Clone(rec.Reasons), func(r failover.Reason) bool { return r.OK || r.Code == failover.ReasonVantage })
		if rec.Kind == failover.RecordRefusal && len(against) == 1 && against[0].Code == failover.ReasonPause {
			return nil
		}
	}
	return errors.New("since the pause nothing was refused for nothing but the pause")
}
