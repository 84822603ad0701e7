package edge

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/schemes/vip"
	"github.com/draasd/draas/schemes/vip/lan"
)

// ask asks a member again and again: to renew what it has granted six times in a
// lease, or to be told when the address is free.
func (k *keeper) ask(ctx context.Context, id draas.MemberID, m granter) {
	var self uint64 // the member's raft id
	for ctx.Err() == nil {
		k.mu.Lock()
		wants, pause := k.wants(self)
		var wait time.Duration
		if !k.has && wants {
			wait = waitForIt
		}
		ask, asked, moved := k.hold(wants, wait), k.clock(), k.moved
		k.mu.Unlock()
		if !wants {
			// Members are told all the same: it is for their status.
			if granted, _ := k.exchange(ctx, m, ask, wait); granted != nil {
				k.took(ask, asked, granted)
			}
			timer := time.NewTimer(pause)
			select {
			case <-ctx.Done():
			case <-moved:
			case <-timer.C:
			}
			timer.Stop()
			continue
		}
		granted, err := k.exchange(ctx, m, ask, wait)
		if ctx.Err() != nil {
			return
		}
		k.answered(id, granted, err)
		took := k.took(ask, asked, granted)
		rest := k.v.Renew() - k.clock().Sub(asked)
		if granted != nil {
			self = granted.Member
		}
		switch {
		case err != nil:
			k.log.Debug("a member does not answer for the virtual IP", "member", id, "err", err)
			rest = max(rest, k.v.Renew()/2)
		case took || granted.Waited == 0:
		default:
			rest = 0 // it has waited there, and goes on waiting
		}
		if rest > 0 {
			timer := time.NewTimer(rest)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
		}
	}
}

// wants reports whether a member's grant is wanted, or after which pause to think
// again. k.mu is held.
func (k *keeper) wants(member uint64) (bool, time.Duration) {
	now := k.clock()
	if left := k.back - now.Boot; left > 0 {
		return false, min(left, fitEvery)
	}
	return k.trouble == "" && !k.claim.Leave(member, now), fitEvery
}

// hold is the next question. k.mu is held.
func (k *keeper) hold(want bool, wait time.Duration) api.Hold {
	a := k.claim.Ask(want)
	trouble := k.trouble
	if trouble == "" {
		trouble = k.warning
	}
	return api.Hold{VIP: a.VIP, Frontend: a.Frontend, Session: a.Session, Seq: a.Seq, Want: want, WaitMS: wait.Milliseconds(),
		Has: k.has, Trouble: trouble[:min(len(trouble), api.MaxTrouble)], Stations: k.own}
}

// exchange asks a member once. An answer that comes later than a lease counts
// for nothing.
func (k *keeper) exchange(ctx context.Context, m granter, ask api.Hold, wait time.Duration) (*api.Granted, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+max(k.v.Lease.Length, 200*time.Millisecond))
	defer cancel()
	return m.Hold(ctx, ask)
}

// took takes an answer, and reports whether it was a grant.
func (k *keeper) took(ask api.Hold, asked draas.Reading, g *api.Granted) bool {
	if g == nil {
		return false
	}
	k.mu.Lock()
	now := k.clock()
	// What it waited there is not counted, as far as the clocks agree on it.
	asked = asked.Add(time.Duration(clocks * float64(g.Waited)))
	held := k.claim.Holder(now)
	k.claim.Took(vip.Ask{VIP: ask.VIP, Frontend: ask.Frontend, Session: ask.Session, Seq: ask.Seq, Want: ask.Want}, asked,
		vip.Answer{Member: g.Member, Granted: g.Granted, Lease: g.Lease, Holder: g.Holder, Left: g.Left, Reason: g.Reason,
			Electorate: vip.Electorate{Voters: g.Voters, Outgoing: g.Outgoing}, Applied: g.Applied}, now)
	for frontend, stations := range g.Stations {
		k.stations[frontend] = stations
	}
	if k.claim.Holder(now) != held {
		k.tell()
	}
	k.mu.Unlock()
	k.nudge()
	return g.Granted
}

// said is what a member answered last, and when.
type said struct {
	at   time.Duration // boot clock
	what string
}

// answered keeps what a member answered.
func (k *keeper) answered(id draas.MemberID, g *api.Granted, err error) {
	what := "granted"
	switch {
	case err != nil:
		what = err.Error()
	case g.Holder != "":
		what = "granted to " + g.Holder
	case !g.Granted:
		what = g.Reason
	}
	k.mu.Lock()
	k.said[id] = said{k.clock().Boot, what}
	k.mu.Unlock()
}

// heard tells what the members answered last. k.mu is held.
func (k *keeper) heard() []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(k.said)) {
		x := k.said[id]
		out = append(out, fmt.Sprintf("%s, %v ago: %s", id, (k.clock().Boot-x.at).Round(time.Millisecond), x.what))
	}
	return out
}

// friends are the interfaces of the other frontends, as far as members have said.
func (k *keeper) friends() []lan.Station {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []lan.Station
	for frontend, stations := range k.stations {
		for _, s := range stations {
			if mac, err := net.ParseMAC(s); err == nil {
				out = append(out, lan.Station{Name: frontend, MAC: mac})
			}
		}
	}
	return out
}

// stationsOf are the hardware addresses of the interfaces that exist.
func stationsOf(list []lan.Address) []string {
	var out []string
	for _, a := range list {
		if i, err := net.InterfaceByName(a.Interface); err == nil && len(i.HardwareAddr) > 0 && !slices.Contains(out, i.HardwareAddr.String()) {
			out = append(out, i.HardwareAddr.String())
		}
	}
	return out[:min(len(out), api.MaxStations)]
}
