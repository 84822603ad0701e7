package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/draasd/draas"
)

// groups checks which services a group has, and that they leave to it what a
// group decides.
func (d *decoder) groups(c *Config) {
	owner := map[draas.ServiceID]draas.ServiceID{}
	var services []string
	for i := range c.Services {
		services = append(services, string(c.Services[i].ID))
	}
	inFile := inOrder(d, ids(c.Groups), func(id draas.ServiceID) string { return join("group", string(id)) })
	for _, id := range inFile {
		at := join("group", string(id))
		if slices.Contains(services, string(id)) {
			d.report(at, fmt.Sprintf("a service is called %q too", id), "give the group a name of its own: commands take the name of either")
		}
		g, _ := c.Group(id)
		for i, s := range g.Services {
			path := elem(at+".services", i)
			if !slices.Contains(services, string(s)) {
				right := "list those of the [service.*] tables"
				if guess := d.nearest(string(s), services); guess != "" {
					right = fmt.Sprintf("did you mean %q?", guess)
				}
				d.report(path, fmt.Sprintf("there is no service %q", s), right)
			} else if first, taken := owner[s]; taken {
				d.report(path, fmt.Sprintf("%s is in the group %q already", s, first), "a service moves with one group: remove it from the other")
			} else {
				owner[s] = id
			}
		}
	}
	for i := range c.Services {
		s := &c.Services[i]
		if s.Group == "" {
			continue
		}
		for _, k := range policyKeys("") {
			if path := join("service", string(s.ID)) + "." + k.path; d.has(path) {
				d.report(path, fmt.Sprintf("the group %q decides this for all its services", s.Group), fmt.Sprintf("write it in [%s], and remove it here", s.policyPath()))
			}
		}
	}
}

func ids(groups []Group) []draas.ServiceID {
	var list []draas.ServiceID
	for i := range groups {
		list = append(list, groups[i].ID)
	}
	return list
}

// unit checks how a group moves, or a service that is in none.
func (d *decoder) unit(c *Config, u *Unit) {
	at := u.path()
	if u.Group && len(u.Parts) == 0 {
		return // its list of services was reported
	}
	d.need(at+".home", "name the site where it belongs and where failback leads")
	placed := !slices.ContainsFunc(u.Parts, func(s Service) bool {
		p := join("service", string(s.ID))
		return !d.clean(p+".address", p+".cname")
	})
	if u.Group && placed && len(u.Sites) < 2 {
		d.report(at+".services", fmt.Sprintf("only %d of the sites has all of them", len(u.Sites)), "give each an address at two common sites, or they cannot move together")
	}
	if u.Home != "" && d.isSite(c, at+".home", u.Home) && placed && !slices.Contains(u.Sites, u.Home) {
		d.homeless(u, at)
	}
	if u.Timing.HoldMax < u.Timing.Hold && d.clean(at+".hold", at+".hold_max") {
		d.report(at+".hold_max", fmt.Sprintf("%s is less than the hold of %s it begins with", short(u.Timing.HoldMax), short(u.Timing.Hold)), "give at least "+short(u.Timing.Hold))
	}
	d.dataLoss(c, u, at)
	d.automatic(c, u)
	d.budgets(c, u)
}

// homeless reports a home where the unit, or a part of it, has no address.
func (d *decoder) homeless(u *Unit, at string) {
	for i := range u.Parts {
		s := &u.Parts[i]
		if slices.Contains(s.Sites(), u.Home) {
			continue
		}
		table := "address"
		if len(s.CNAME) > 0 {
			table = "cname"
		}
		who := "the service"
		if u.Group {
			who = string(s.ID)
		}
		d.report(at+".home", fmt.Sprintf("%s has no %s at %q", who, table, u.Home), fmt.Sprintf("add %s, or choose another home", join(table, string(u.Home))))
	}
}

// dataLoss checks that a bound on lost data can be observed at all.
func (d *decoder) dataLoss(c *Config, u *Unit, at string) {
	path := at + ".max_data_loss"
	if u.MaxDataLoss == 0 || !d.clean(path) {
		return
	}
	known := false
	for i := range u.Parts {
		s := &u.Parts[i]
		lag := join("service", string(s.ID)) + ".lag"
		if !d.has(lag) {
			continue
		}
		known = true
		if old := s.Lag.Interval + s.Lag.Timeout; old > u.MaxDataLoss && d.clean(lag) {
			d.report(path, fmt.Sprintf("%s cannot be shown: what the lag command says may be %s old", short(u.MaxDataLoss), short(old)),
				fmt.Sprintf("ask more often (interval and timeout of %s), or allow at least %s", lag, short(old)))
		}
	}
	if c.Sync.Follows == u.ID {
		known = true
		// A copy is at its oldest right before the next run is done.
		if every := c.Sync.Every; c.Sync.Schedule == "" && every >= u.MaxDataLoss && d.clean("sync") {
			d.report(path, fmt.Sprintf("%s cannot be held: the copy is up to %s old before it is renewed", short(u.MaxDataLoss), short(every)),
				fmt.Sprintf("give [sync] every = %q, or allow more than %s", short(u.MaxDataLoss/2), short(every)))
		}
	}
	if !known {
		d.report(path, "nothing says how far the copy is behind", fmt.Sprintf("give [%s.lag] a command that prints the seconds, let [sync] follow it, or remove max_data_loss", join("service", string(u.Parts[0].ID))))
	}
}

// lag checks the command of one service.
func (d *decoder) lag(s *Service) {
	at := join("service", string(s.ID)) + ".lag"
	if d.has(at) && s.Lag.Timeout > s.Lag.Interval && d.clean(at) {
		d.report(at+".timeout", fmt.Sprintf("a timeout of %s does not fit in an interval of %s", short(s.Lag.Timeout), short(s.Lag.Interval)),
			fmt.Sprintf("give a timeout of at most %s, or a longer interval", short(s.Lag.Interval)))
	}
}

// automatic checks what unplanned moves without a person need.
func (d *decoder) automatic(c *Config, u *Unit) {
	at := u.path()
	path := at + ".automatic"
	agreed := d.clean("member", "two_site") // else it would be said twice
	domains := c.Domains()
	if agreed && u.Confirmations > len(domains) && d.has(at+".confirmations") {
		d.report(at+".confirmations", fmt.Sprintf("is %d, but there are %d failure domains", u.Confirmations, len(domains)), "write at most the number of domains")
	}
	if !u.Automatic {
		if u.MaxRTO > 0 {
			d.report(at+".max_rto", "a person decides when it moves, so no time can be promised", "set automatic = true, or remove max_rto")
		}
		return
	}
	for i := range u.Parts {
		s := &u.Parts[i]
		if s.Fence.Kind == draas.FenceNone && d.clean(join("service", string(s.ID))+".fence") {
			d.report(path, fmt.Sprintf("the fence of %s is \"none\": an unplanned move could leave two sites serving (rule 1)", s.ID),
				fmt.Sprintf("give a [%s.fence] of kind path, exec, systemd, kernel or device, or set automatic = false", join("service", string(s.ID))))
		}
	}
	if u.OnLeaseLoss == draas.LeaseLossServe {
		d.devices(u, path, `a lost site serves on (on_lease_loss = "serve")`, `set on_lease_loss = "fence"`)
	}
	for i := range u.Parts {
		if s := &u.Parts[i]; byDevice(s) && len(u.Parts) > 1 {
			d.devices(u, path, fmt.Sprintf("the fence of %s is \"device\", so the whole group has to be switched off", s.ID), fmt.Sprintf("let %s stop by another kind of fence", s.ID))
			break
		}
	}
	if !agreed {
		return
	}
	if c.TwoSite {
		d.devices(u, path, "of two sites without a witness, the one that is left cannot tell a lost site from a cut line", "set automatic = false: then a person decides")
		return
	}
	d.majority(c, u, path)
}

// devices wants a device for every host that would have to be switched off
// before another site may take over.
func (d *decoder) devices(u *Unit, path, why, otherwise string) {
	for i := range u.Parts {
		s := &u.Parts[i]
		fence := join("service", string(s.ID)) + ".fence"
		if s.Fence.Kind == draas.FenceDevice || s.Fence.Kind == draas.FenceNone || !d.clean(fence) {
			continue // missing devices, or the missing fence, are reported for themselves
		}
		var without []string
		for _, site := range u.Sites {
			if !slices.Contains(s.Fence.switchable(), site) {
				without = append(without, string(site))
			}
		}
		if len(without) > 0 {
			d.report(path, fmt.Sprintf("%s, and no device switches %s off at %s", why, s.ID, strings.Join(without, " and at ")),
				fmt.Sprintf("list a [[%s.device]] for each site, or %s", fence, otherwise))
		}
	}
}

// majority checks that those who are left after a disaster can decide.
func (d *decoder) majority(c *Config, u *Unit, path string) {
	n, domains := len(c.Members), c.Domains()
	count := map[string]int{}
	for _, m := range c.Members {
		count[m.Domain]++
	}
	for _, domain := range domains {
		if left := n - count[domain]; left < n/2+1 {
			d.report(path, fmt.Sprintf("%d of %d members are in the failure domain %q: when it is lost the rest is no majority, so automatic moves are impossible", count[domain], n, domain), "put a member (a witness will do) in another domain, or set automatic = false")
			return
		}
	}
	if at := u.path() + ".confirmations"; u.Confirmations == len(domains) && d.has(at) {
		d.report(at, fmt.Sprintf("all %d failure domains would have to say failed, and a lost one says nothing", len(domains)), fmt.Sprintf("write at most %d", len(domains)-1))
	}
}
