package daemon

import (
	"fmt"
	"slices"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// detours are where users enter at another site than the active one: they are
// served, by a way that is longer than it need be.
func (v sight) detours(svc api.ServiceStatus) []alarm {
	var out []alarm
	for _, e := range svc.Entries {
		if e.Site == svc.Active || svc.Active == "" || svc.Phase.Moving() || e.Refused != "" || e.Operator != "" {
			continue
		}
		command := fmt.Sprintf("draasd enter %s %s", svc.ID, svc.Active)
		a := alarm{key: "detour:" + string(e.Service), service: svc.ID,
			text: fmt.Sprintf("users of %s enter at %s and are led on to %s: they are served, by a detour", e.Service, e.Site, svc.Active)}
		if w, has := v.way(svc.ID, e.Service, svc.Active); has && v.heardAt(w) {
			a.text += "; frontends are heard at " + string(svc.Active) + " again: " + command
			a.command = command
		}
		out = append(out, a)
	}
	return out
}

// unentered are the sites where users of a hybrid could not enter if they had
// to.
func (v sight) unentered(svc api.ServiceStatus) []alarm {
	var out []alarm
	for _, part := range v.parts(svc.ID) {
		for _, w := range v.state.Policy.Services[svc.ID].Ways[part] {
			dead := slices.ContainsFunc(svc.Entries, func(e api.Entry) bool { return e.Service == part && e.Site == w.Site && e.Refused != "" })
			if dead || v.heardAt(w) {
				continue // the first is told of by entries
			}
			out = append(out, alarm{key: fmt.Sprintf("unentered:%s:%s", part, w.Site), service: svc.ID, page: v.leads(), after: alarmFrontend,
				text: fmt.Sprintf("%s: no member hears a frontend at %s: users cannot enter there", part, w.Site)})
		}
	}
	return out
}

func (v sight) way(unit, part draas.ServiceID, site draas.SiteID) (failover.Way, bool) {
	ways := v.state.Policy.Services[unit].Ways[part]
	i := slices.IndexFunc(ways, func(w failover.Way) bool { return w.Site == site })
	if i < 0 {
		return failover.Way{}, false
	}
	return ways[i], true
}

// heardAt reports whether any member hears a frontend of a way.
func (v sight) heardAt(w failover.Way) bool {
	for _, name := range w.Frontends {
		for _, m := range v.state.Members {
			if m.Frontends[name].Verdict == draas.Healthy {
				return true
			}
		}
	}
	return false
}
