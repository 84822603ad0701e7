package demo

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/fence"
)

// inject lets a disaster happen to the primary site. It returns the process
// that it stopped, if any.
func inject(ctx context.Context, s *stage, m *measurement, disaster Disaster) (frozen *child, err error) {
	switch disaster {
	case DisasterService:
		p, err := s.process(serviceOf(primary), primary)
		if err != nil {
			return nil, err
		}
		at := time.Now()
		err = p.kill()
		return nil, errors.Join(err, m.fault(s, at, "KILL: the service's process at %s (SIGKILL)", primary))
	case DisasterHang:
		p, err := s.process(serviceOf(primary), primary)
		if err != nil {
			return nil, err
		}
		at := time.Now()
		err = p.signal(syscall.SIGSTOP)
		return nil, errors.Join(err, m.fault(s, at, "STOP: the service's process at %s (SIGSTOP) accepts and never answers", primary))
	case DisasterDaemon:
		p, err := s.process(daemonOf(primary), primary)
		if err != nil {
			return nil, err
		}
		at := time.Now()
		err = p.kill()
		return nil, errors.Join(err, m.fault(s, at, "KILL: draasd at %s (SIGKILL); its guard and service live", primary))
	case DisasterFreeze:
		p, err := s.process(daemonOf(primary), primary)
		if err != nil {
			return nil, err
		}
		at := time.Now()
		err = p.signal(syscall.SIGSTOP)
		return p, errors.Join(err, m.fault(s, at, "STOP: draasd at %s (SIGSTOP); its guard and service live", primary))
	case DisasterSite:
		at := time.Now()
		var errs []error
		all := s.crew.of(primary)
		for _, p := range all {
			errs = append(errs, p.kill())
		}
		errs = append(errs, m.fault(s, at, "KILL: all %d processes at %s (SIGKILL)", len(all), primary))
		return nil, errors.Join(errs...)
	case DisasterEntry:
		p, err := s.process(string(edge), primary)
		if err != nil {
			return nil, err
		}
		at := time.Now()
		err = p.kill()
		return nil, errors.Join(err, m.fault(s, at, "KILL: %s (SIGKILL), by which users enter; the service at %s lives", edge, primary))
	case DisasterSwitchover:
		at := time.Now()
		err := m.fault(s, at, "draasd switchover %s %s: both sites are well", service, dr)
		return nil, errors.Join(err, switchover(ctx, s))
	case DisasterSilent:
		at := time.Now()
		s.links.isolate(primary, drop)
		return nil, m.fault(s, at, "SILENCE: every link from and to %s drops everything, its users' too", primary)
	}
	return nil, fmt.Errorf("cannot inject disaster %q", disaster)
}

// switchover asks for a planned move, as an operator would.
func switchover(ctx context.Context, s *stage) error {
	client := api.Unix(s.control(primary))
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, activateLimit)
	defer cancel()
	answer, err := client.Request(ctx, api.Request{Service: service, Site: dr.Site(),
		Request: failover.Request{Move: failover.MoveSwitchover, Operator: "draasd demo"}})
	if err != nil {
		return err
	}
	if !answer.Accepted {
		return fmt.Errorf("switchover %s: %s", service, recordLine(answer.Record).text)
	}
	return nil
}

// thawWatch is how long a daemon is watched after it was continued: longer
// than the lease of the fast profile, so that a renewal would show.
const thawWatch = 2500 * time.Millisecond

// thaw continues a stopped daemon, waits until it has caught up, and watches
// that it stays passive. Whether its gate answers meanwhile is rtotest's to
// see, which asks it directly.
func thaw(ctx context.Context, s *stage, p *child, epoch draas.Epoch) error {
	s.line.add(time.Now(), loud, "CONTINUE: draasd at %s (SIGCONT)", primary)
	if err := p.signal(syscall.SIGCONT); err != nil {
		return err
	}
	client := api.Unix(s.control(primary))
	defer client.Close()
	var lacks string
	for deadline := time.Now().Add(activateLimit); ; {
		st, err := client.Status(ctx, true)
		if err != nil {
			lacks = err.Error()
		} else if lacks = passive(st, epoch); lacks == "" {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w until %s is passive: %s", errWait, primary, lacks)
		}
		if err := wait(ctx, 50*time.Millisecond, s.crew.fault); err != nil {
			return err
		}
	}
	if err := wait(ctx, thawWatch, s.crew.fault); err != nil {
		return err
	}
	st, err := client.Status(ctx, true)
	if err != nil {
		return err
	}
	if lacks := passive(st, epoch); lacks != "" {
		return fmt.Errorf("%s did not stay passive: %s", primary, lacks)
	}
	s.line.add(time.Now(), good, "%s has caught up and stays passive: its fence is closed, epoch %d is at %s", primary, epoch, dr)
	return nil
}

// passive says what is missing until a site's own daemon knows that it does
// not serve, and its guard keeps the fence closed.
func passive(s *api.Status, epoch draas.Epoch) string {
	sv := find(s)
	if sv.Active != dr.Site() || sv.Epoch != epoch {
		return fmt.Sprintf("it believes that %s is active at %s, epoch %d", service, sv.Active, sv.Epoch)
	}
	for _, r := range s.Reported {
		for _, f := range r.Fences {
			if r.Member == s.Self && f.Service == service {
				if f.State == string(fence.Closed) {
					return ""
				}
				return fmt.Sprintf("its fence is %s", f.State)
			}
		}
	}
	return "its guard does not answer"
}
