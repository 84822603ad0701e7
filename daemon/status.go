package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/quorum"
)

// picture is what the main loop knows at one instant.
type picture struct {
	state   failover.State
	core    quorum.CoreStatus
	now     draas.Reading
	permits map[draas.ServiceID]draas.Deadline
	reload  *api.Reload
}

func (d *Daemon) picture(ctx context.Context) (picture, error) {
	var p picture
	err := d.loop.call(ctx, func(l *loop) {
		p.state, p.core, p.now = l.replica.State(), l.replica.Status(), l.clock.Now()
		p.reload = d.reloadStatus(p.state)
		p.permits = make(map[draas.ServiceID]draas.Deadline)
		for id := range p.state.Services {
			if _, deadline, held := l.replica.Permit(id, p.now); held {
				p.permits[id] = deadline
			}
		}
	})
	return p, err
}

// status is the whole picture; unless local, with what the other members
// report of themselves.
func (d *Daemon) status(ctx context.Context, local bool) (*api.Status, error) {
	p, err := d.picture(ctx)
	if err != nil {
		return nil, err
	}
	w := d.now()
	s := &api.Status{
		Cluster: w.cfg.Cluster, ClusterID: d.clusterID, Self: d.self, At: time.Now().UTC(),
		Leader: p.core.Leader, Term: p.core.Term, Applied: p.state.Index,
		Policy: p.state.Policy.Digest, Profile: w.cfg.Profile.Name, Reload: p.reload,
	}
	for _, m := range p.state.Policy.Members {
		s.Members = append(s.Members, memberStatus(p.state, m))
	}
	for _, id := range p.state.ServiceIDs() {
		s.Services = append(s.Services, d.serviceStatus(p.state, id))
	}
	s.Reported = append(s.Reported, d.report(ctx, p))
	if !local {
		s.Reported = append(s.Reported, d.askOthers(ctx)...)
	}
	slices.SortFunc(s.Reported, func(a, b api.Reported) int { return cmp.Compare(a.Member, b.Member) })
	s.Warnings = warnings(s, w.cfg.Digest(), local)
	return s, nil
}

func memberStatus(s failover.State, m failover.MemberPolicy) api.MemberStatus {
	out := api.MemberStatus{ID: m.ID, Role: m.Role, Domain: m.Domain, SeenBy: make(map[draas.MemberID]draas.Verdict)}
	if st := s.Members[m.ID]; st != nil {
		out.Started, out.SameConfig = true, st.Digest == s.Policy.Digest
	}
	for _, other := range s.Policy.Members {
		if st := s.Members[other.ID]; st != nil && other.ID != m.ID {
			out.SeenBy[other.ID] = st.Peers[m.ID].Verdict
		}
	}
	return out
}

func (d *Daemon) serviceStatus(s failover.State, id draas.ServiceID) api.ServiceStatus {
	sv, policy := s.Services[id], s.Policy.Services[id]
	svc, _ := d.now().cfg.Service(id)
	out := api.ServiceStatus{ID: id, Phase: sv.Phase, Active: sv.Active, Home: policy.Home, Epoch: sv.Epoch,
		Scheme: svc.Scheme, Fence: policy.Fence, Automatic: policy.Automatic, Move: sv.Move, Last: sv.Last, Pause: sv.Pause}
	for _, site := range policy.Sites {
		for _, m := range s.Policy.Members {
			o, seen := sv.Views[site][m.ID]
			if !seen || (m.ID != site.Member() && o.Epoch != sv.Epoch) {
				continue
			}
			out.Views = append(out.Views, api.View{Site: site, Vantage: m.ID, Verdict: o.Verdict, Class: o.Class, Detail: o.Detail})
		}
	}
	return out
}

// report is what this member says of itself.
func (d *Daemon) report(ctx context.Context, p picture) api.Reported {
	r := api.Reported{Member: d.self, Applied: p.state.Index, Leader: p.core.Leader, InTouch: p.core.Leader != "",
		Suspicions: d.suspicions.Load()}
	if d.guard == nil {
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	fences, err := d.guard.Status(ctx)
	if err != nil {
		r.Error = "its guard does not answer: " + err.Error()
		return r
	}
	for _, f := range fences {
		st := api.FenceStatus{Service: f.Service, State: string(f.State), Epoch: f.Epoch, Error: f.Error}
		if deadline, held := p.permits[f.Service]; held {
			st.PermitLeftMS = deadline.Left(p.now).Milliseconds()
		}
		r.Fences = append(r.Fences, st)
	}
	return r
}

// askOthers asks every other member that has an API address what it reports.
func (d *Daemon) askOthers(ctx context.Context) []api.Reported {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	w := d.now()
	answers := make(chan api.Reported)
	asked := 0
	for _, m := range w.cfg.Members {
		client := w.others[m.ID]
		if client == nil {
			continue
		}
		asked++
		go func() {
			s, err := client.Status(ctx, true)
			if err != nil || len(s.Reported) != 1 {
				answers <- api.Reported{Member: m.ID, Error: fmt.Sprintf("does not answer: %v", err)}
				return
			}
			answers <- s.Reported[0]
		}()
	}
	var out []api.Reported
	for range asked {
		out = append(out, <-answers)
	}
	return out
}

// warnings says what an operator has to look at.
func warnings(s *api.Status, digest string, local bool) []string {
	var out []string
	if s.Leader == "" {
		out = append(out, "no leader: this member cannot reach a majority; nothing is decided and permits run out")
	}
	if s.Policy != "" && s.Policy != digest {
		out = append(out, "this member's failover.toml differs from the policy in force: automatic moves are blocked until all members run one file")
	}
	if r := s.Reload; r != nil && len(r.Refused) > 0 {
		out = append(out, fmt.Sprintf("%s as it is now was refused, %s; the one in use stays", r.File, strings.Join(r.Refused, "; ")))
	}
	for _, m := range s.Members {
		switch {
		case !m.Started:
			out = append(out, fmt.Sprintf("%s has never started", m.ID))
		case !m.SameConfig:
			out = append(out, fmt.Sprintf("%s runs another failover.toml than the policy in force: automatic moves are blocked", m.ID))
		}
	}
	for _, svc := range s.Services {
		out = append(out, disagreements(s, svc, local)...)
	}
	return out
}

// disagreements holds what the guards report against what is decided.
func disagreements(s *api.Status, svc api.ServiceStatus, local bool) []string {
	var out, open []string
	for _, r := range s.Reported {
		for _, f := range r.Fences {
			if f.Service != svc.ID {
				continue
			}
			if f.State == string(fence.Open) {
				open = append(open, string(r.Member))
			}
			if f.Error != "" {
				out = append(out, fmt.Sprintf("%s: fence at %s: %s", svc.ID, r.Member, f.Error))
			}
			if svc.Active.Member() == r.Member && !svc.Phase.Moving() && f.State == string(fence.Closed) {
				out = append(out, fmt.Sprintf("%s: active at %s, but its fence is closed", svc.ID, svc.Active))
			}
		}
	}
	if len(open) > 1 {
		out = append(out, fmt.Sprintf("%s: MORE THAN ONE FENCE IS OPEN: %v", svc.ID, open))
	}
	if svc.Active == "" {
		out = append(out, fmt.Sprintf("%s was never activated: draasd activate %s SITE", svc.ID, svc.ID))
	}
	return out
}

// why answers why a service is where it is.
func (d *Daemon) why(ctx context.Context, id draas.ServiceID) (*api.Why, error) {
	p, err := d.picture(ctx)
	if err != nil {
		return nil, err
	}
	sv := p.state.Services[id]
	if sv == nil {
		return nil, fmt.Errorf("%w: there is no service %q in the policy in force", errNotFound, id)
	}
	w := &api.Why{Service: id, Phase: sv.Phase, Active: sv.Active, Epoch: sv.Epoch, Now: p.state.Explain(id)}
	for _, r := range slices.Backward(p.state.History) {
		if r.Service == id && (r.Kind == failover.RecordDecision || r.Kind == failover.RecordRefusal) {
			w.Decisions = append(w.Decisions, r)
		}
		if len(w.Decisions) == 10 {
			break
		}
	}
	return w, nil
}

// history lists the latest records, oldest first.
func (d *Daemon) history(ctx context.Context, id draas.ServiceID, limit int) ([]failover.Record, error) {
	p, err := d.picture(ctx)
	if err != nil {
		return nil, err
	}
	out := []failover.Record{}
	for _, r := range slices.Backward(p.state.History) {
		if id != "" && r.Service != id {
			continue
		}
		out = append(out, r)
		if len(out) == limit {
			break
		}
	}
	slices.Reverse(out)
	return out, nil
}
