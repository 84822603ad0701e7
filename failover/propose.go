package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// propose adds the event unless the same proposal is still under way.
func (a *Agent) propose(c *Commands, key string, now draas.Reading, make func() Event) {
	if p, sent := a.pending[key]; sent && now.Boot-p.at < a.cfg.Resend {
		return
	}
	e := make()
	a.pending[key] = proposal{e.ID, now.Boot}
	c.Propose = append(c.Propose, e)
}

// Retry forgets the proposals under way: they may have been lost with a
// leader, and are made again at the next Tick. One that was not lost is void
// the second time.
func (a *Agent) Retry() {
	clear(a.pending)
	a.fresh = true
}

// insist is the key of a request's proposal.
const insist = "request"

func (a *Agent) proposeRequest(c *Commands, now draas.Reading) {
	if a.asked == nil || a.state.Version < 3 {
		return // before version 3 it might be decided twice
	}
	a.propose(c, insist, now, func() Event { return *a.asked })
}

func (a *Agent) proposeHello(c *Commands, now draas.Reading) {
	a.propose(c, "hello", now, func() Event {
		e := a.event(EventHello, now)
		e.Hello = &Hello{Boot: a.cfg.Boot, Digest: a.cfg.Policy.Digest, Version: a.cfg.Version}
		return e
	})
}

// proposeRules proposes this member's file when nobody's is in force, or when
// the members that can be heard have the same; tells of a file read since the
// start; and a newer version of Step when all can step by it.
func (a *Agent) proposeRules(c *Commands, now draas.Reading) {
	me, digest := a.state.Members[a.cfg.Self], a.cfg.Policy.Digest
	if a.state.Version >= 2 && me.Digest != digest {
		a.offer(c, "offer "+digest, false, now)
	}
	if me.Moved && now.Boot >= a.serveAfter {
		a.offer(c, "settled", true, now)
	}
	if digest != a.state.Policy.Digest {
		if a.state.Version >= 2 && me.Digest != digest || !a.state.agreed(&a.cfg.Policy) {
			return
		}
		key := "policy " + digest
		a.giveWay(key, now)
		a.propose(c, key, now, func() Event {
			p, e := a.cfg.Policy, a.event(EventPolicy, now)
			e.Policy = &p
			return e
		})
		return
	}
	if v := a.state.capable(); v > max(a.state.Version, 1) {
		key := fmt.Sprintf("version %d", v)
		a.giveWay(key, now)
		a.propose(c, key, now, func() Event {
			p, e := a.cfg.Policy, a.event(EventVersion, now)
			e.Version, e.Policy = v, &p
			return e
		})
	}
}

// giveWay puts off what any member could propose, so that the log has it once
// and not once from each: the first in the file begins, the next ones only when
// that has not come.
func (a *Agent) giveWay(key string, now draas.Reading) {
	rank := slices.IndexFunc(a.cfg.Policy.Members, func(m MemberPolicy) bool { return m.ID == a.cfg.Self })
	if _, known := a.pending[key]; !known && rank > 0 {
		a.pending[key] = proposal{at: now.Boot + time.Duration(rank-1)*a.cfg.Resend}
	}
}

// offer tells of the file that this daemon has read.
func (a *Agent) offer(c *Commands, key string, settled bool, now draas.Reading) {
	a.propose(c, key, now, func() Event {
		e := a.event(EventOffer, now)
		e.Hello = &Hello{Boot: a.cfg.Boot, Digest: a.cfg.Policy.Digest, Version: a.cfg.Version, Settled: settled}
		return e
	})
}

// proposeLags brings the log's idea of the copies at this site up to date. It
// is told of what decides, not of each second.
func (a *Agent) proposeLags(c *Commands, now draas.Reading) {
	for _, id := range a.serviceIDs() {
		l, asked := a.lags[id]
		policy, sv := a.state.rules(id), a.state.Services[id]
		if !asked || policy.MaxLoss == 0 || sv.Active == "" || sv.Active == a.ownSite() || !policy.has(a.ownSite()) {
			continue
		}
		was, told := sv.Lags[a.ownSite()]
		if told && !worthTelling(was, l, policy.MaxLoss) {
			continue
		}
		a.tellLag(c, id, sv.Epoch, l, now)
	}
}

func (a *Agent) tellLag(c *Commands, id draas.ServiceID, epoch draas.Epoch, l Lag, now draas.Reading) {
	a.propose(c, fmt.Sprintf("lag %s %d %t %v", id, epoch, l.Known, l.Behind), now, func() Event {
		e := a.event(EventLag, now)
		e.Service, e.Site, e.Epoch, e.Lag = id, a.ownSite(), epoch, &l
		return e
	})
}

// worthTelling: another answer to whether the site may take over, or another
// figure by a quarter of what is allowed.
func worthTelling(was, now Lag, allowed time.Duration) bool {
	if was.Known != now.Known {
		return true
	}
	return now.Known && ((was.Behind <= allowed) != (now.Behind <= allowed) || (was.Behind-now.Behind).Abs() > allowed/4)
}

// proposeViews brings the log's idea of what this member sees up to date.
func (a *Agent) proposeViews(c *Commands, now draas.Reading) {
	if a.viewsAt != 0 && a.viewsAt == a.revision {
		return // nothing has changed since
	}
	var news []viewKey
	for k, o := range a.views {
		known := a.known(k, o)
		if known.Verdict != o.Verdict || known.Epoch != o.Epoch && o.Verdict != draas.Unknown {
			news = append(news, k)
		}
	}
	if len(news) == 0 {
		a.viewsAt = a.revision
		return
	}
	sortViews(news)
	var changed []Observation
	key := "observed"
	for _, k := range news {
		o := a.views[k]
		changed = append(changed, o)
		key += fmt.Sprintf(" %s/%s/%s/%s=%d@%d", k.service, k.site, k.peer, k.frontend, o.Verdict, o.Epoch)
	}
	a.propose(c, key, now, func() Event {
		e := a.event(EventObserved, now)
		e.Observed = changed
		return e
	})
}

// known is what the log says this member sees. A view that the log would not
// take counts as known.
func (a *Agent) known(k viewKey, o Observation) Observation {
	if k.peer != "" {
		return a.state.Members[a.cfg.Self].Peers[k.peer]
	}
	if k.frontend != "" {
		if !a.state.hasFrontend(k.frontend) {
			return o
		}
		return a.state.Members[a.cfg.Self].Frontends[k.frontend]
	}
	id := a.state.unitOf(k.service)
	if a.state.Services[id] == nil || !a.state.Policy.Services[id].has(k.site) || !slices.Contains(a.state.parts(id), k.service) {
		return o
	}
	return a.state.views(id, k.service)[k.site][a.cfg.Self]
}
