package config

import (
	"fmt"
	"strings"

	"github.com/draasd/draas"
)

// Notes says what the file implies and its author may not expect, a sentence
// or two each, for `draasd check` to print. None of it is wrong.
func (c *Config) Notes() []string {
	var notes []string
	if c.TwoSite {
		notes = append(notes, c.twoSiteNote())
		if c.Pager.Command == nil {
			notes = append(notes, "a lost site needs a person here, and there is no [pager]: nobody is called, the alarm stands in draasd status and in the log only")
		}
	}
	for _, id := range sortedKeys(c.DNS) {
		notes = append(notes, c.zoneNotes(c.DNS[id])...)
	}
	for _, f := range c.Frontends {
		notes = append(notes, c.frontendNotes(f)...)
	}
	for i := range c.VIPs {
		notes = append(notes, c.vipNotes(&c.VIPs[i])...)
	}
	units := c.Units()
	for i := range units {
		notes = append(notes, c.unitNotes(&units[i])...)
	}
	return notes
}

// zoneNotes say what the place of a zone's servers endangers.
func (c *Config) zoneNotes(z Zone) []string {
	var notes []string
	if z.IsHosted() {
		return c.hostedNotes(z)
	}
	if z.Provider == ProviderEmbedded {
		if len(z.Copies.Secondaries) > 0 {
			notes = append(notes, fmt.Sprintf("dns.%s: secondaries know of no permit: one that hears nothing any more answers on for %s (expire)", z.ID, short(z.Copies.Expire)))
		}
		return notes
	}
	for _, m := range c.Members {
		if m.Role == draas.RoleSite && m.Domain == z.Update.Domain {
			notes = append(notes, fmt.Sprintf("dns.%s: the primary stands in the failure domain of %s: when that is lost, no name of %s can be moved", z.ID, m.ID, z.Name))
		}
	}
	if len(z.Update.Secondaries) == 0 {
		notes = append(notes, fmt.Sprintf("dns.%s: one server has %s alone: when it is lost, names fail as answers expire", z.ID, z.Name))
	}
	return notes
}

// twoSiteNote is what two members can do without a third.
func (c *Config) twoSiteNote() string {
	var alone []string
	for _, u := range c.Units() {
		if u.Automatic {
			alone = append(alone, string(u.ID))
		}
	}
	without := "none is taken over without a person"
	if len(alone) > 0 {
		without = "without a person only " + strings.Join(alone, ", ") + ", after a device has confirmed the lost site off"
	}
	return "two sites without a witness: planned moves, and moves from a site that is up or says goodbye, work while both members are up. " +
		"When one is lost the other is no majority and cannot tell a lost site from a cut line: of the services of the lost site, " + without
}

func (c *Config) unitNotes(u *Unit) []string {
	var notes []string
	note := func(format string, args ...any) {
		notes = append(notes, fmt.Sprintf("%s: ", u.ID)+fmt.Sprintf(format, args...))
	}
	t := u.Timing
	if t.LeastOutage > 0 && t.LeastOutage <= t.Confirm {
		note("least_outage (%s) changes nothing: confirm lasts as long (%s)", short(t.LeastOutage), short(t.Confirm))
	}
	if longest := max(t.Confirm, t.LeastOutage); t.Restart > 0 && t.Restart <= longest {
		note("restart (%s) changes nothing: confirm or least_outage lasts as long (%s)", short(t.Restart), short(longest))
	}
	if u.MaxDataLoss > 0 && u.Automatic {
		note("moves by itself only to a copy that is known to be at most %s behind; else a person has to allow the loss", short(u.MaxDataLoss))
	}
	if u.OnLeaseLoss == draas.LeaseLossServe {
		by := "a person vouches that it has stopped"
		if len(u.Switchable()) == len(u.Sites) {
			by = "a device has switched it off"
		}
		note("a site that cannot renew its permit serves on (on_lease_loss): nobody takes over from it until %s", by)
	}
	for i := range u.Parts {
		s := &u.Parts[i]
		if s.Fronted() {
			notes = append(notes, c.frontedNotes(s)...)
		}
		if s.Scheme == SchemeHybrid {
			notes = append(notes, c.hybridNotes(s)...)
		}
		switch s.Fence.Kind {
		case draas.FenceNone:
			note("nothing stops %s at a site that is out of touch (fence none): a failover asks you to make sure yourself", s.ID)
		case draas.FenceExec, draas.FenceSystemd:
			if u.Automatic && c.Watchdog.Device == "" {
				note("when the guard is killed and does not come back, nothing closes the fence %s of %s: a [watchdog] would", s.Fence.Kind, s.ID)
			}
		case draas.FenceDevice:
			note("%s stops only when its site is switched off (fence device), in a planned move too", s.ID)
		}
	}
	return notes
}
