package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/schemes/dns/authority"
)

// picture is what the main loop knows at one instant.
type picture struct {
	state   failover.State
	core    quorum.CoreStatus
	now     draas.Reading
	permits map[draas.ServiceID]draas.Deadline
	reload  *api.Reload
	alone   failover.Alone // of a member of two sites; it counts without a leader only
}

func (d *Daemon) picture(ctx context.Context) (picture, error) {
	var p picture
	err := d.loop.call(ctx, func(l *loop) {
		p.state, p.core, p.now = l.replica.State(), l.replica.Status(), l.clock.Now()
		p.reload = d.reloadStatus(p.state)
		p.alone = l.replica.Alone(p.now)
		p.permits = make(map[draas.ServiceID]draas.Deadline)
		for id := range p.state.Services {
			if _, deadline, held := l.replica.Permit(id, p.now); held {
				for _, part := range p.state.Policy.PartsOf(id) {
					p.permits[part] = deadline
				}
			}
		}
	})
	return p, err
}

// status is the whole picture; unless local, with what the other members
// report of themselves.
func (d *Daemon) status(ctx context.Context, local bool) (*api.Status, error) {
	s, _, err := d.overview(ctx, local)
	return s, err
}

// overview is the whole picture and what in it wants a person.
func (d *Daemon) overview(ctx context.Context, local bool) (*api.Status, []alarm, error) {
	p, err := d.picture(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, alarms := d.overviewOf(ctx, p, local)
	return s, alarms, nil
}

func (d *Daemon) overviewOf(ctx context.Context, p picture, local bool) (*api.Status, []alarm) {
	w := d.now()
	s := &api.Status{
		Cluster: w.cfg.Cluster, ClusterID: d.clusterID, Self: d.self, At: time.Now().UTC(),
		Leader: p.core.Leader, Term: p.core.Term, Applied: p.state.Index,
		Policy: p.state.Policy.Digest, Profile: w.cfg.Profile.Name, Reload: p.reload,
		Generation: p.core.Generation.Number, Version: max(p.state.Version, 1), Log: logMembers(p.core, p.now),
	}
	for _, m := range p.state.Policy.Members {
		s.Members = append(s.Members, memberStatus(p.state, m))
	}
	for _, id := range p.state.ServiceIDs() {
		// The state remembers the epochs of what no file has any more.
		if _, has := p.state.Policy.Services[id]; has {
			s.Services = append(s.Services, d.serviceStatus(p.state, id))
		}
	}
	s.Reported = append(s.Reported, d.report(ctx, p))
	if !local {
		for _, other := range d.askOthers(ctx) {
			s.Reported = append(s.Reported, other.reported)
			if other.log != nil && other.reported.Member == s.Leader {
				s.Log = other.log
			}
		}
	}
	slices.SortFunc(s.Reported, func(a, b api.Reported) int { return cmp.Compare(a.Member, b.Member) })
	var copies []authority.SecondaryStatus
	if d.answers != nil {
		copies = d.answers.authority.Secondaries()
	}
	all := alarmsOf(sight{status: s, state: p.state, wiring: w, started: d.startedBy, core: p.core, alone: p.alone, peers: d.transport.Status(), own: d.transport.Certificate(), held: d.acts.heldNames(), copies: copies})
	for _, a := range all {
		s.Warnings = append(s.Warnings, a.text)
	}
	return s, all
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
	c := d.now().cfg
	out := api.ServiceStatus{ID: id, Phase: sv.Phase, Active: sv.Active, Home: policy.Home, Epoch: sv.Epoch,
		Fence: policy.Fence, Automatic: policy.Automatic, Move: sv.Move, Last: sv.Last, Pause: sv.Pause, Unacked: sv.Unacked}
	svc, _ := c.Service(id)
	out.Scheme = svc.Scheme
	for _, part := range policy.Parts {
		svc, _ := c.Service(part)
		out.Scheme = svc.Scheme
		out.Parts = append(out.Parts, api.Part{ID: part, Scheme: svc.Scheme, Fence: svc.Fence.Kind})
		out.Views = append(out.Views, views(s, sv.Parts[part], id, part)...)
	}
	if len(policy.Parts) == 0 {
		out.Views = views(s, sv.Views, id, "")
	}
	for _, part := range s.Policy.PartsOf(id) {
		if e, has := sv.Entries[part]; has && len(policy.Ways[part]) > 0 {
			out.Entries = append(out.Entries, api.Entry{Service: part, Site: e.Site, Turn: e.Turn, Since: e.Since.UTC(), Operator: e.Operator, Refused: e.Refused})
		}
	}
	for _, site := range policy.Sites {
		if l, told := sv.Lags[site]; told {
			out.Lags = append(out.Lags, api.Lag{Site: site, Known: l.Known, BehindMS: l.Behind.Milliseconds()})
		}
		if n := sv.Flaps[site]; n > 0 {
			out.Flaps = append(out.Flaps, api.Flaps{Site: site, Failures: n, Limit: policy.Flaps})
		}
	}
	return out
}

// views lists what the vantages see of a service that is decided on by the
// unit; part names it where it is one of a group.
func views(s failover.State, seen failover.Views, unit, part draas.ServiceID) []api.View {
	var out []api.View
	for _, site := range s.Policy.Services[unit].Sites {
		for _, m := range s.Policy.Members {
			o, known := seen[site][m.ID]
			if !known || (m.ID != site.Member() && o.Epoch != s.Services[unit].Epoch) {
				continue
			}
			out = append(out, api.View{Service: part, Site: site, Vantage: m.ID, Verdict: o.Verdict, Class: o.Class, Detail: o.Detail})
		}
	}
	return out
}

// report is what this member says of itself.
func (d *Daemon) report(ctx context.Context, p picture) api.Reported {
	r := api.Reported{Member: d.self, Applied: p.state.Index, Leader: p.core.Leader, InTouch: p.core.Leader != "",
		Suspicions: d.suspicions.Load(), Version: failover.Version, CertificateEnds: ends(d.transport.Certificate())}
	if d.users != nil {
		r.Users = d.users.report()
	}
	if d.carrier != nil {
		r.Sync = d.carrier.brief(time.Now())
	}
	r.Frontends = d.frontends.seen(p.now)
	r.VIPs = d.grants.seen(p.now)
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
		st := api.FenceStatus{Service: f.Service, State: string(f.State), Epoch: f.Epoch, Error: f.Error, Upsets: f.Upsets, LastUpset: f.LastUpset}
		if deadline, held := p.permits[f.Service]; held {
			st.PermitLeftMS = deadline.Left(p.now).Milliseconds()
		}
		r.Fences = append(r.Fences, st)
	}
	return r
}

// ends is when a certificate ends, or its CA's.
func ends(c quorum.CertificateStatus) time.Time {
	if !c.CANotAfter.IsZero() && c.CANotAfter.Before(c.NotAfter) {
		return c.CANotAfter
	}
	return c.NotAfter
}

// told is what another member says.
type told struct {
	reported api.Reported
	log      []api.LogMember
}

// askOthers asks every other member that has an API address what it reports.
func (d *Daemon) askOthers(ctx context.Context) []told {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	w := d.now()
	answers := make(chan told)
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
				answers <- told{reported: api.Reported{Member: m.ID, Error: fmt.Sprintf("does not answer: %v", err)}}
				return
			}
			answers <- told{s.Reported[0], s.Log}
		}()
	}
	var out []told
	for range asked {
		out = append(out, <-answers)
	}
	return out
}

// logMembers is who takes part in the log, as this member knows it.
func logMembers(core quorum.CoreStatus, now draas.Reading) []api.LogMember {
	var out []api.LogMember
	for _, m := range core.Members {
		l := api.LogMember{ID: m.ID, RaftID: m.RaftID, Role: api.LogRole(m.Role), HeardMS: -1,
			Match: m.Match, Snapshot: m.Lagging, Leaving: m.Leaving, Quarantine: m.Quarantined}
		switch {
		case m.RaftID == core.ID:
			l.HeardMS, l.Match = 0, core.Last
		case m.Heard > 0:
			l.HeardMS = (now.Boot - m.Heard).Milliseconds()
		}
		out = append(out, l)
	}
	if core.Role == quorum.RoleJoining || core.Role == quorum.RoleRemoved {
		out = append(out, api.LogMember{ID: core.Self, RaftID: core.ID, Role: api.LogRole(core.Role), Refused: core.Refused})
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
		if r.Service == id && (lacking(r) || r.Kind == failover.RecordDecision || r.Kind == failover.RecordRefusal || r.Kind == failover.RecordEntry) {
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
