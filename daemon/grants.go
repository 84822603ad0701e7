package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/schemes/vip"
)

// grants is to which frontends this member has granted virtual IPs, and what it
// has heard of them. It outlives a run on the log: what was granted stays so.
type grants struct {
	clock func() draas.Reading
	moved func(vip, frontend string) // a frontend has the addresses now

	mu    sync.Mutex
	g     *vip.Grants
	vips  []config.VIP
	heard map[holder]holding
	// contact is, on the boot clock, when this member was in touch with a quorum
	// last and had applied all that it had committed.
	contact time.Duration
}

type holder struct{ vip, frontend string }

// holding is what a frontend said last of a virtual IP.
type holding struct {
	at       time.Duration // boot clock
	has      bool
	trouble  string
	stations []string
}

// passOver is how much longer a frontend that waits for an address waits than
// the one before it in the file: they are not to share the members' grants.
const passOver = 8 * time.Millisecond

func newGrants(clock func() draas.Reading, moved func(vip, frontend string)) *grants {
	return &grants{clock: clock, moved: moved, g: vip.NewGrants(clock(), config.Drift), heard: make(map[holder]holding)}
}

// use takes over the virtual IPs of a file.
func (g *grants) use(c *config.Config) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.vips = c.VIPs
	terms := make(map[string]vip.Terms, len(c.VIPs))
	for _, v := range c.VIPs {
		terms[v.ID] = vip.Terms{Lease: v.Lease, Holders: v.Holders}
	}
	g.g.Use(terms)
	maps.DeleteFunc(g.heard, func(h holder, _ holding) bool {
		return !slices.Contains(terms[h.vip].Holders, h.frontend)
	})
}

// stand takes over how this member stands in the log. caughtUp says that it had
// applied all that was committed when it was last in touch.
func (g *grants) stand(s quorum.CoreStatus, caughtUp bool, now draas.Reading) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.vips) == 0 {
		return
	}
	standing := vip.Standing{Electorate: vip.Electorate{Voters: s.Voters, Outgoing: s.VotersOutgoing}, Applied: s.Applied}
	if s.Role == quorum.RoleVoter {
		standing.Self = s.ID
	}
	if caughtUp {
		g.contact = s.Contact
	}
	standing.Contact = g.contact
	g.g.Stand(standing, now)
}

// hold answers a frontend, which may wait for an address to become free.
func (g *grants) hold(ctx context.Context, h api.Hold) (*api.Granted, error) {
	start := g.clock()
	rank, taken, known := g.hear(h, start)
	if !known {
		return nil, fmt.Errorf("%w: the file that this member goes by has no [vip.%s] with the holder %s", errNotFound, h.VIP, h.Frontend)
	}
	if taken {
		g.moved(h.VIP, h.Frontend)
	}
	ask := vip.Ask{VIP: h.VIP, Frontend: h.Frontend, Session: h.Session, Seq: h.Seq, Want: h.Want}
	until := min(time.Duration(h.WaitMS)*time.Millisecond, maxFollowWait)
	for {
		g.mu.Lock()
		now := g.clock()
		a, news := g.g.Ask(ask, now), g.g.News()
		others := g.others(h)
		g.mu.Unlock()
		waited := now.Sub(start)
		if a.Granted || !h.Want || a.Left <= 0 || waited >= until {
			return &api.Granted{Member: a.Member, Granted: a.Granted, Lease: a.Lease, Holder: a.Holder, Left: a.Left, Reason: a.Reason,
				Voters: a.Electorate.Voters, Outgoing: a.Electorate.Outgoing, Applied: a.Applied, Waited: waited, Stations: others}, nil
		}
		pass := time.Duration(rank) * passOver
		wait := time.NewTimer(min(a.Left+pass, until-waited))
		select {
		case <-news:
			pause(ctx, pass)
		case <-wait.C:
		case <-ctx.Done():
		}
		wait.Stop()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// hear takes what a frontend says of itself, and tells how far down it stands in
// the list of holders and whether it has the addresses now and had not before.
func (g *grants) hear(h api.Hold, now draas.Reading) (rank int, taken, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, v := range g.vips {
		if v.ID == h.VIP {
			rank = slices.Index(v.Holders, h.Frontend)
			known = rank >= 0
		}
	}
	if known {
		taken = h.Has && !g.heard[holder{h.VIP, h.Frontend}].has
		g.heard[holder{h.VIP, h.Frontend}] = holding{now.Boot, h.Has, h.Trouble, h.Stations}
	}
	return rank, taken, known
}

// others are the stations of the other holders. g.mu is held.
func (g *grants) others(h api.Hold) map[string][]string {
	var out map[string][]string
	for from, said := range g.heard {
		if from.vip == h.VIP && from.frontend != h.Frontend && len(said.stations) > 0 {
			if out == nil {
				out = make(map[string][]string)
			}
			out[from.frontend] = said.stations
		}
	}
	return out
}

// seen is what is known here of the virtual IPs.
func (g *grants) seen(now draas.Reading) []api.VIPSeen {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []api.VIPSeen
	for _, v := range g.vips {
		s := api.VIPSeen{VIP: v.ID, Addresses: addresses(v), Granted: g.g.Holder(v.ID, now)}
		for _, f := range v.Holders {
			x := api.VIPHolder{Frontend: f, HeardMS: -1}
			if said, ok := g.heard[holder{v.ID, f}]; ok {
				x.HeardMS, x.Trouble = (now.Boot - said.at).Milliseconds(), said.trouble
				x.Has = said.has && now.Boot-said.at < v.Lease.Wait()
			}
			s.Holders = append(s.Holders, x)
		}
		out = append(out, s)
	}
	return out
}

// addresses lists those of a virtual IP.
func addresses(v config.VIP) []string {
	var out []string
	for _, held := range v.Addresses {
		out = append(out, held.Prefix.Addr().String())
	}
	return out
}

// vipMoved has the history say who has a virtual IP now: that of each unit whose
// users come by one of its frontends. Every member that hears of it says so, and
// the log keeps it once.
func (d *Daemon) vipMoved(id, edge string) {
	w := d.now()
	v, _ := w.cfg.VIP(id)
	fronts := func(service draas.ServiceID) bool {
		s, _ := w.cfg.Service(service)
		return s.Fronted() && slices.ContainsFunc(s.Frontend.Use, func(f string) bool { return slices.Contains(v.Holders, f) })
	}
	d.loop.post(func(l *loop) {
		s := l.replica.State()
		for unit, parts := range w.units {
			if sv := s.Services[unit]; sv != nil && slices.ContainsFunc(parts, fronts) {
				l.replica.Find(failover.Finding{Service: unit, Epoch: sv.Epoch, Step: "vip " + id,
					Code: failover.FindingCode("frontend " + edge + " has it"), Text: strings.Join(addresses(v), " ")})
			}
		}
	})
}

// serveHold serves the frontends, by the certificate that names them.
func (d *Daemon) serveHold(ctx context.Context, r *http.Request) (any, error) {
	var h api.Hold
	if err := readBody(r, &h, api.MaxHold); err != nil {
		return nil, err
	}
	if len(h.Stations) > api.MaxStations || len(h.Trouble) > api.MaxTrouble {
		return nil, badRequest{errors.New("more stations, or a longer trouble, than a frontend has")}
	}
	if err := d.speaksFor(r, h.Frontend); err != nil {
		return nil, err
	}
	return d.grants.hold(ctx, h)
}

// speaksFor reports whether the certificate of a request may speak for a
// frontend: its own, or that of the member which runs it.
func (d *Daemon) speaksFor(r *http.Request, edge string) error {
	if r.TLS == nil {
		return nil // the control socket is its owner's
	}
	name := r.TLS.PeerCertificates[0].Subject.CommonName
	if x, has := d.now().cfg.Frontend(edge); name != edge && (!has || string(x.Member) != name) {
		return badRequest{fmt.Errorf("the certificate is %s's: it cannot speak for frontend %q", name, edge)}
	}
	return nil
}
