package matrix

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// askPatience is how long an operator waits for a member's answer.
const askPatience = 2 * time.Second

func (w *world) status(ctx context.Context, member string) (*api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	return w.clients[member].Status(ctx, false)
}

// ask asks for a move or else, of any member that answers.
func (w *world) ask(ctx context.Context, site string, r failover.Request) error {
	r.Operator = "matrix"
	var errs []error
	for _, m := range []string{witness, dr, primary} {
		asking, cancel := context.WithTimeout(ctx, askPatience)
		a, err := w.clients[m].Request(asking, api.Request{Service: service, Site: draas.SiteID(site), Request: r})
		cancel()
		if err == nil && !a.Accepted {
			err = fmt.Errorf("refused: %s", against(a.Record.Reasons))
		}
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", m, err))
	}
	return errors.Join(errs...)
}

// against are the reasons that stood against a request.
func against(all []failover.Reason) string {
	out := ""
	for _, r := range all {
		if !r.OK {
			out += fmt.Sprintf(" %s: %s;", r.Code, r.Text)
		}
	}
	return out
}

func (w *world) activate(ctx context.Context) error {
	err := await(ctx, startLimit, func(ctx context.Context) error {
		return w.ask(ctx, primary, failover.Request{Move: failover.MoveActivate})
	})
	if err != nil {
		return fmt.Errorf("activate: %w", err)
	}
	return nil
}

// well waits until the service is active at the site and nothing is amiss:
// every member has its daemon, a leader and the same state, all that look see
// the service well, every frontend is heard and goes by the present epoch, and
// users get answers by every way in.
func (w *world) well(ctx context.Context, site string) error {
	err := await(ctx, homeLimit, func(ctx context.Context) error {
		for _, m := range []string{witness, primary, dr} {
			s, err := w.status(ctx, m)
			if err == nil {
				err = w.settled(s, site)
			}
			if err != nil {
				return fmt.Errorf("as %s has it: %w", m, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("wait until %s is well at %s: %w", service, site, err)
	}
	return nil
}

func find(s *api.Status) api.ServiceStatus {
	for _, sv := range s.Services {
		if sv.ID == service {
			return sv
		}
	}
	return api.ServiceStatus{}
}

// settled says what is amiss.
func (w *world) settled(s *api.Status, site string) error {
	if s.Leader == "" || len(s.Members) < len(members) {
		return errors.New("there is no leader")
	}
	for _, m := range s.Members {
		for _, by := range members {
			if !m.Started || !m.SameConfig || by != string(m.ID) && m.SeenBy[draas.MemberID(by)] != draas.Healthy {
				return fmt.Errorf("%s does not see %s", by, m.ID)
			}
		}
	}
	sv := find(s)
	if string(sv.Active) != site || sv.Move != nil {
		return fmt.Errorf("it is %s at %q", sv.Phase, sv.Active)
	}
	seen := 0
	for _, v := range sv.Views {
		// A fence is closed to all but the active site's users; its own member
		// looks from behind it.
		if string(v.Site) != site && string(v.Vantage) != string(v.Site) {
			continue
		}
		if seen++; v.Verdict != draas.Healthy {
			return fmt.Errorf("%s sees it %s at %s: %s", v.Vantage, v.Verdict, v.Site, v.Detail)
		}
	}
	if want := len(members) + 1; seen < want {
		return fmt.Errorf("%d of %d look", seen, want)
	}
	return w.reported(s, sv, site)
}

// reported says what is amiss with what members, guards and frontends say of
// themselves.
func (w *world) reported(s *api.Status, sv api.ServiceStatus, site string) error {
	for _, r := range s.Reported {
		if r.Error != "" || !r.InTouch {
			return fmt.Errorf("%s: in touch %v %s", r.Member, r.InTouch, r.Error)
		}
		for _, f := range r.Fences {
			want := "closed"
			if string(r.Member) == site {
				want = "open"
			}
			if !w.Bare && f.State != want {
				return fmt.Errorf("the fence at %s is %s", r.Member, f.State)
			}
		}
	}
	for _, f := range w.frontends() {
		if err := heard(s, f.name, sv.Epoch); err != nil {
			return err
		}
	}
	return nil
}

// heard: some member has heard the frontend lately, and leads it by the epoch.
func heard(s *api.Status, name string, epoch draas.Epoch) error {
	err := fmt.Errorf("%s is not heard", name)
	for _, r := range s.Reported {
		for _, f := range r.Frontends {
			if f.Frontend != name || f.HeardMS < 0 || f.HeardMS > api.FrontendFresh.Milliseconds() {
				continue
			}
			for _, sv := range f.Services {
				if sv.Service == service && sv.Epoch == epoch && sv.State == "open" {
					return nil
				}
				err = fmt.Errorf("%s is %s at epoch %d: %s", name, sv.State, sv.Epoch, sv.Reason)
			}
		}
	}
	return err
}

// findFront finds the frontend that users come by: of a pair the one that has
// the address, as soon as one has, else the first, which is the one at home.
func (w *world) findFront(ctx context.Context) error {
	w.front = w.frontends()[0].name
	if !w.Pair {
		return nil
	}
	return await(ctx, startLimit, func(context.Context) error {
		for _, f := range w.frontends() {
			out, err := w.net.machines[f.name].Run("/", "ip", "-o", "addr", "show", "dev", "eth0")
			if err != nil {
				return err
			}
			if strings.Contains(out, " "+address(edge, hostVIP)+"/") {
				w.front = f.name
				return nil
			}
		}
		return errors.New("nobody has the virtual address")
	})
}

// entered says whether users of a hybrid come in at home.
func entered(sv api.ServiceStatus) error {
	for _, e := range sv.Entries {
		if e.Site != primary {
			return fmt.Errorf("users enter at %s", e.Site)
		}
	}
	return nil
}

// goHome brings the service back to the primary site after a run, and waits
// until all is as it was before. Who looks on a busy machine may undo the move
// home: then it is asked for again.
func (w *world) goHome(ctx context.Context) error {
	if w.Peer != nil {
		return w.peersWell(ctx)
	}
	err := await(ctx, homeLimit, func(ctx context.Context) error {
		s, err := w.status(ctx, witness)
		if err != nil {
			return err
		}
		sv := find(s)
		if sv.Active == "" || sv.Move != nil {
			return fmt.Errorf("it is %s at %q", sv.Phase, sv.Active)
		}
		if err := w.settled(s, string(sv.Active)); err != nil {
			return err
		}
		if err := entered(sv); err != nil && sv.Active == primary {
			return errors.Join(err, w.ask(ctx, primary, failover.Request{Ask: failover.AskEnter}))
		}
		if sv.Active == primary {
			return nil
		}
		if err := w.ask(ctx, "", failover.Request{Ask: failover.AskAcknowledge}); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
		return errors.Join(errors.New("it is not home yet"), w.ask(ctx, "", failover.Request{Move: failover.MoveFailback}))
	})
	if err != nil {
		return fmt.Errorf("bring it home: %w", err)
	}
	if err := w.well(ctx, primary); err != nil {
		return err
	}
	w.calm.Mark()
	// A resolver remembers for long which servers did not answer.
	w.kill("unbound")
	w.revive("unbound")
	return w.ask(ctx, "", failover.Request{Ask: failover.AskAcknowledge})
}
