package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns/authority"
)

// How long a cause has to last before somebody is called for it: what mends
// itself at a restart or an election wants nobody.
const (
	alarmLeaderless = 30 * time.Second
	alarmGuard      = 10 * time.Second
	alarmUsers      = 5 * time.Second
	alarmCopies     = 30 * time.Second
	alarmFrontend   = 10 * time.Second
)

// alarm is something that a person should know. Each stands as a warning in
// the status; some call a person besides.
type alarm struct {
	key     string // tells causes apart, the same at every member
	service draas.ServiceID
	text    string
	reasons []failover.Reason
	command string        // ready to run, if there is one
	page    bool          // this member calls a person
	after   time.Duration // when it has lasted so long
	once    bool          // and not again: it is over, and worth knowing
}

// sight is what alarms are raised from.
type sight struct {
	status *api.Status
	state  failover.State
	wiring *wiring
	// started is the file that the daemon was started with: some of it holds
	// until a restart.
	started *wiring
	core    quorum.CoreStatus
	alone   failover.Alone
	peers   []quorum.PeerStatus
	own     quorum.CertificateStatus
	copies  []authority.SecondaryStatus
	held    []heldName // that a brake of this member keeps where they were
}

// leads reports whether this member speaks for all of what the log says.
func (v sight) leads() bool { return v.status.Leader == v.status.Self }

// reported is what a member says of itself; nil when it was not asked.
func (v sight) reported(m draas.MemberID) *api.Reported {
	for i := range v.status.Reported {
		if v.status.Reported[i].Member == m {
			return &v.status.Reported[i]
		}
	}
	return nil
}

// alarmsOf says what an operator has to look at, the worst first.
func alarmsOf(v sight) []alarm {
	var out []alarm
	for _, svc := range v.status.Services {
		out = append(out, v.twoOpen(svc)...)
	}
	out = append(out, v.cluster()...)
	out = append(out, v.files()...)
	out = append(out, v.members()...)
	out = append(out, v.log()...)
	out = append(out, v.secondaries()...)
	out = append(out, v.frontends()...)
	out = append(out, v.vips()...)
	out = append(out, v.carrying()...)
	for _, svc := range v.status.Services {
		out = append(out, v.fences(svc)...)
		out = append(out, v.users(svc)...)
		out = append(out, v.entries(svc)...)
		out = append(out, v.detours(svc)...)
		out = append(out, v.unentered(svc)...)
		out = append(out, v.unit(svc)...)
	}
	return out
}

// twoOpen is the one thing that must never be.
func (v sight) twoOpen(svc api.ServiceStatus) []alarm {
	var out []alarm
	for _, part := range v.parts(svc.ID) {
		var open []string
		for _, r := range v.status.Reported {
			for _, f := range r.Fences {
				if f.Service == part && f.State == string(fence.Open) {
					open = append(open, string(r.Member))
				}
			}
		}
		if len(open) > 1 {
			out = append(out, alarm{key: "two-open:" + string(part), service: svc.ID, page: true,
				text: fmt.Sprintf("%s: MORE THAN ONE FENCE IS OPEN: %v", part, open)})
		}
	}
	return out
}

// frontends is about those that nobody hears: users may reach them still, and
// are led by the last that they knew, or to nobody.
func (v sight) frontends() []alarm {
	var out []alarm
	for i, x := range v.wiring.cfg.Frontends {
		heard := false
		for _, r := range v.status.Reported {
			if i < len(r.Frontends) && r.Frontends[i].Frontend == x.ID {
				ms := r.Frontends[i].HeardMS
				heard = heard || ms >= 0 && ms < api.FrontendFresh.Milliseconds()
			}
		}
		if !heard {
			out = append(out, alarm{key: "frontend:" + x.ID, page: v.leads(), after: alarmFrontend,
				text: fmt.Sprintf("frontend %s is not heard: look there with draasd frontend status; moves do not wait for it", x.ID)})
		}
	}
	return out
}

func (v sight) parts(unit draas.ServiceID) []draas.ServiceID { return v.state.Policy.PartsOf(unit) }

// cluster is what concerns all members together.
func (v sight) cluster() []alarm {
	two := v.wiring.cfg.TwoSite
	switch {
	case two && v.status.Leader == "":
		return v.lost()
	case two:
		return v.single()
	case v.status.Leader != "":
		return nil
	}
	return []alarm{{key: "leader:" + string(v.status.Self), page: true, after: alarmLeaderless,
		text: "no leader: this member cannot reach a majority; nothing is decided and permits run out"}}
}

// files is about what failover.toml says and who goes by it.
func (v sight) files() []alarm {
	var out []alarm
	s, w := v.status, v.wiring
	if s.Policy != "" && s.Policy != w.policy.Digest {
		out = append(out, alarm{key: "file:" + string(s.Self),
			text: "this member's failover.toml differs from the policy in force: automatic moves are blocked until all members run one file"})
	}
	if r := s.Reload; r != nil && len(r.Refused) > 0 {
		out = append(out, alarm{key: "reload:" + string(s.Self),
			text: fmt.Sprintf("%s as it is now was refused, %s; the one in use stays", r.File, strings.Join(r.Refused, "; "))})
	}
	if w.cfg.Raft != v.started.cfg.Raft {
		out = append(out, alarm{key: "raft:" + string(s.Self),
			text: fmt.Sprintf("profile %s is in use, but the log keeps the timing of profile %s until draasd is restarted: one member after the other", w.cfg.Profile.Name, v.started.cfg.Profile.Name)})
	}
	return out
}

// members is about each member by itself.
func (v sight) members() []alarm {
	var out []alarm
	for _, m := range v.status.Members {
		add := func(what, format string, args ...any) {
			out = append(out, alarm{key: what + ":" + string(m.ID), text: fmt.Sprintf(format, args...)})
		}
		st := v.state.Members[m.ID]
		switch {
		case !m.Started && v.status.Generation > 0:
			add("started", "%s has not joined since the cluster was started anew: run draasd join --discard there, and start it", m.ID)
		case !m.Started:
			add("started", "%s has never started", m.ID)
		case !m.SameConfig:
			add("config", "%s runs another failover.toml than the policy in force: automatic moves are blocked", m.ID)
		}
		if st != nil && max(st.Version, 1) < failover.Version {
			add("version", "%s runs an older draasd: all decide by version %d until it is upgraded, and what is newer waits", m.ID, max(v.state.Version, 1))
		}
		if a, near := v.certificate(m.ID); near {
			out = append(out, a)
		}
		if r := v.reported(m.ID); m.ID == v.status.Self && r != nil && r.Error != "" {
			out = append(out, alarm{key: "guard:" + string(m.ID), text: fmt.Sprintf("%s: %s", m.ID, r.Error), page: true, after: alarmGuard})
		}
	}
	return out
}

// log is about the copies of the replicated log.
func (v sight) log() []alarm {
	var out []alarm
	for _, m := range v.status.Log {
		add := func(what, format string, args ...any) *alarm {
			out = append(out, alarm{key: what + ":" + string(m.ID), text: fmt.Sprintf(format, args...)})
			return &out[len(out)-1]
		}
		switch {
		case m.Quarantine != "":
			a := add("quarantine", "%s is in quarantine, nothing of it counts: %s. Stop it, and let it come back with draasd join --discard", m.ID, m.Quarantine)
			a.page, a.command = v.leads(), "draasd join --discard"
		case m.Role == api.LogJoining && m.Refused != "":
			add("joining", "%s asks to be let in, and is not: %s", m.ID, m.Refused)
		case m.Role == api.LogJoining:
			add("joining", "%s asks to be let in", m.ID)
		case m.Role == api.LogLearner:
			add("learner", "%s is catching up and does not vote yet", m.ID)
		case m.Leaving:
			add("leaving", "%s is leaving the cluster", m.ID)
		}
	}
	return out
}

// secondaries are the servers that have copies of this member's zones.
func (v sight) secondaries() []alarm {
	var out []alarm
	for _, s := range v.copies {
		a := alarm{key: fmt.Sprintf("copy:%s:%s:%s", s.Zone, s.Address, v.status.Self), after: alarmCopies}
		switch {
		case !s.Notified && s.Err != "":
			a.text = fmt.Sprintf("secondary %s of %s cannot be told of changes by %s: %s", s.Address, s.Zone, v.status.Self, s.Err)
		case s.Answered && s.Has != s.Serial:
			a.text = fmt.Sprintf("secondary %s of %s has serial %d, %s has %d: its users are led by an older answer. See its log", s.Address, s.Zone, s.Has, v.status.Self, s.Serial)
		default:
			continue
		}
		out = append(out, a)
	}
	return out
}

// certificate is about the end of a member's certificate. Without one the
// member is shut out, and its permits run out. What a member says of itself
// counts, else what its connections show.
func (v sight) certificate(m draas.MemberID) (alarm, bool) {
	var ends time.Time
	if r := v.reported(m); r != nil {
		ends = r.CertificateEnds
	}
	for _, p := range v.peers {
		if p.Member == m && ends.IsZero() {
			ends = p.NotAfter
		}
	}
	a := alarm{key: "certificate:" + string(m), page: m == v.status.Self}
	left := ends.Sub(v.status.At)
	switch {
	case m == v.status.Self && !v.own.NotAfter.IsZero() && v.own.CANotAfter.IsZero():
		a.text = fmt.Sprintf("the CA of %s's certificate is not in its ca.crt: its peers may shut it out", m)
	case ends.IsZero() || left > v.wiring.cfg.TLS.Warn:
		return alarm{}, false
	case left <= 0:
		a.text = fmt.Sprintf("the certificate of %s, or its CA's, has ended at %s: its peers shut it out. Where the CA is kept: draasd issue %s",
			m, ends.UTC().Format(time.DateTime), m)
	default:
		a.text = fmt.Sprintf("the certificate of %s, or its CA's, ends in %s, at %s: its peers will then shut it out. Where the CA is kept: draasd issue %s",
			m, days(left), ends.UTC().Format(time.DateTime), m)
	}
	return a, true
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// fences holds what the guards report against what is decided.
func (v sight) fences(svc api.ServiceStatus) []alarm {
	var out []alarm
	for _, part := range v.parts(svc.ID) {
		for _, r := range v.status.Reported {
			i := slices.IndexFunc(r.Fences, func(f api.FenceStatus) bool { return f.Service == part })
			if i < 0 {
				if r.Member == v.status.Self && r.Error == "" && v.wiring.fenced[part] {
					out = append(out, alarm{key: fmt.Sprintf("unguarded:%s:%s", part, r.Member), service: svc.ID, page: svc.Active.Member() == r.Member, after: alarmGuard,
						text: fmt.Sprintf("%s: the guard at %s does not know it: it has read another failover.toml", part, r.Member), command: "systemctl reload draas-guard"})
				}
				continue
			}
			f := r.Fences[i]
			if f.Error != "" {
				out = append(out, alarm{key: fmt.Sprintf("fence:%s:%s", part, r.Member), service: svc.ID, page: r.Member == v.status.Self, after: alarmGuard,
					text: fmt.Sprintf("%s: fence at %s: %s", part, r.Member, f.Error)})
			}
			if f.Upsets > 0 {
				out = append(out, alarm{key: fmt.Sprintf("upset:%s:%s:%d", part, r.Member, f.Upsets), service: svc.ID, page: r.Member == v.status.Self, once: true,
					text: fmt.Sprintf("%s: the fence at %s was changed by somebody else, %d times since the guard started, and put right: %s", part, r.Member, f.Upsets, f.LastUpset)})
			}
			if svc.Active.Member() == r.Member && !svc.Phase.Moving() && f.State == string(fence.Closed) {
				out = append(out, alarm{key: fmt.Sprintf("closed:%s:%s", part, r.Member), service: svc.ID, page: r.Member == v.status.Self, after: alarmGuard,
					text: fmt.Sprintf("%s: active at %s, but its fence is closed", part, svc.Active)})
			}
		}
	}
	return out
}

// users holds what leads users to a service against what is decided.
func (v sight) users(svc api.ServiceStatus) []alarm {
	var out []alarm
	for _, r := range v.status.Reported {
		for _, u := range r.Users {
			if u.Service != svc.ID || r.Member != svc.Active.Member() {
				continue
			}
			a := alarm{key: fmt.Sprintf("users:%s:%s", svc.ID, u.Step), service: svc.ID, after: alarmUsers}
			site := cmp.Or(u.Site, svc.Active) // a daemon of before entries does not say where to
			switch u.AsDecided {
			case runbook.No.String():
				a.page = r.Member == v.status.Self
				a.text = fmt.Sprintf("%s: users are not led to %s as decided (%s): %s", svc.ID, site, u.Step, u.Evidence)
				if u.Repairs >= maxRepairs {
					a.text += fmt.Sprintf("; put right %d times within an hour and changed again: somebody else writes there, and is not fought until draasd ack %s", u.Repairs, svc.ID)
				}
			case runbook.Unknown.String():
				a.text = fmt.Sprintf("%s: it is not known whether users are led to %s as decided (%s): %s", svc.ID, site, u.Step, u.Evidence)
			default:
				continue
			}
			out = append(out, a)
		}
	}
	for _, part := range v.parts(svc.ID) {
		for _, h := range v.held {
			if h.service == part {
				out = append(out, alarm{key: fmt.Sprintf("held:%s:%s", part, h.zone), service: svc.ID, page: svc.Active.Member() == v.status.Self, command: "draasd ack " + string(svc.ID),
					text: fmt.Sprintf("%s: its name in the zone of [dns.%s] is not moved to %s: %s. See why it moves so often (draasd history), then: draasd ack %s",
						part, h.zone, v.entry(svc, part), h.why, svc.ID)})
			}
		}
	}
	return out
}

// entry is where a service's name has to lead.
func (v sight) entry(svc api.ServiceStatus, part draas.ServiceID) draas.SiteID {
	if site, _, known := v.state.Leads(part); known {
		return site
	}
	return svc.Active
}

// entries are where users come in although no frontend leads them there.
func (v sight) entries(svc api.ServiceStatus) []alarm {
	var out []alarm
	for _, e := range svc.Entries {
		if e.Refused != "" {
			out = append(out, alarm{key: "entry:" + string(e.Service), service: svc.ID, page: v.leads(),
				text: fmt.Sprintf("users of %s enter at %s, where no frontend is heard: %s", e.Service, e.Site, e.Refused)})
		}
	}
	return out
}

// unit is what the decision wants a person for.
func (v sight) unit(svc api.ServiceStatus) []alarm {
	sv := v.state.Services[svc.ID]
	id := string(svc.ID)
	switch {
	case svc.Active == "":
		return []alarm{{key: "inactive:" + id, service: svc.ID, text: fmt.Sprintf("%s was never activated: draasd activate %s SITE", id, id)}}
	case sv == nil:
		return nil
	}
	var out []alarm
	if svc.Phase == failover.PhaseConfirmed && sv.Refused != "" {
		a := v.stuck(svc)
		a.page = a.page && !v.acknowledged(svc.ID)
		out = append(out, a)
	}
	if sv.Unacked > 0 && sv.Last != nil {
		a := alarm{key: fmt.Sprintf("moved:%s:%v", id, sv.Last.Epoch), service: svc.ID, page: v.leads(), command: "draasd ack " + id,
			text: fmt.Sprintf("%s has moved by itself to %s and nobody has acknowledged it", id, svc.Active)}
		if sv.Unacked > 1 {
			a.text = fmt.Sprintf("%s has moved by itself %d times, last to %s, and nobody has acknowledged it: each makes the time longer in which it does not move again", id, sv.Unacked, svc.Active)
		}
		out = append(out, a)
	}
	return out
}

// stuck is a service that has failed and does not move by itself.
func (v sight) stuck(svc api.ServiceStatus) alarm {
	a := alarm{key: "stuck:" + string(svc.ID), service: svc.ID, page: v.leads(), reasons: v.state.Explain(svc.ID)}
	against := make(map[string]bool)
	var why []string
	for _, r := range a.reasons {
		if !r.OK && r.Code != failover.ReasonVantage {
			against[r.Code] = true
			why = append(why, r.Text)
		}
	}
	a.text = fmt.Sprintf("%s has failed at %s and does not move by itself: %s", svc.ID, svc.Active, strings.Join(why, "; "))
	if against[failover.ReasonOutage] || against[failover.ReasonRestart] {
		a.page = false // this passes, and the rest is looked at then
	}
	a.command = wayOut(svc.ID, against)
	return a
}

// wayOut is the command that overcomes what stands against a move; none when
// there is nowhere to go.
func wayOut(id draas.ServiceID, against map[string]bool) string {
	if against[failover.ReasonTarget] || against[failover.ReasonStatic] {
		return ""
	}
	command := "draasd failover " + string(id)
	if against[failover.ReasonLoss] {
		command += " --allow-data-loss"
	}
	if against[failover.ReasonProof] {
		command += " --vouch"
	}
	return command
}

// acknowledged reports whether somebody has said that they know, since the
// last move and the last refusal.
func (v sight) acknowledged(id draas.ServiceID) bool {
	for _, r := range slices.Backward(v.state.History) {
		if r.Service != id {
			continue
		}
		switch r.Kind {
		case failover.RecordAcknowledge:
			return true
		case failover.RecordRefusal, failover.RecordDone, failover.RecordDecision:
			return false
		}
	}
	return false
}
