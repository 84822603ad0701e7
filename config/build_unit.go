package config

import (
	"net/netip"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// holdMax is how long a growing hold can become by default.
const holdMax = 24 * time.Hour

// policy reads how a unit moves, from its group's or its service's table.
func (d *decoder) policy(c *Config, at string) Policy {
	p := c.Profile
	hold := get(d, at+".hold", p.Hold)
	return Policy{
		Home:          draas.SiteID(get(d, at+".home", "")),
		Automatic:     get(d, at+".automatic", false),
		Confirmations: get(d, at+".confirmations", len(c.Domains())/2+1),
		MaxRTO:        get(d, at+".max_rto", time.Duration(0)),
		Timing: Timing{
			Lease:       draas.Lease{Length: get(d, at+".lease", p.Lease), Drift: Drift},
			Renew:       get(d, at+".renew", p.Renew),
			Confirm:     get(d, at+".confirm", p.Confirm),
			Hold:        hold,
			HoldMax:     get(d, at+".hold_max", max(holdMax, hold)),
			LeastOutage: get(d, at+".least_outage", time.Duration(0)),
			Restart:     get(d, at+".restart", time.Duration(0)),
		},
		Flaps:       get(d, at+".flaps", p.Flaps),
		Steady:      get(d, at+".steady", p.Steady),
		MaxDataLoss: get(d, at+".max_data_loss", time.Duration(0)),
		OnLeaseLoss: draas.LeaseLoss(get(d, at+".on_lease_loss", string(draas.LeaseLossFence))),
	}
}

// group reads a group and gives its policy to its services. A service that
// two groups name stays with the first; that is reported later.
func (d *decoder) group(c *Config, name string) Group {
	at := join("group", name)
	g := Group{
		ID:       draas.ServiceID(name),
		Services: get[[]draas.ServiceID](d, at+".services", nil),
		Policy:   d.policy(c, at),
	}
	d.need(at+".services", `list the services that move together, such as services = ["shop", "billing"]`)
	var parts []*Service
	for i := range c.Services {
		if s := &c.Services[i]; s.Group == "" && slices.Contains(g.Services, s.ID) {
			parts = append(parts, s)
			g.Timing.Lease.Margin = max(g.Timing.Lease.Margin, s.Fence.Margin)
		}
	}
	for _, s := range parts {
		s.Group, s.Policy = g.ID, g.Policy
	}
	return g
}

// Worst times to close when the file gives none.
const (
	marginOwn      = 150 * time.Millisecond // path and kernel: our own work, allowing a stalled machine
	marginOperator = time.Second            // exec and systemd: somebody's program
)

func (d *decoder) fence(c *Config, root map[string]any, service string) Fence {
	at := join("service", service) + ".fence"
	f := Fence{
		Kind:    draas.FenceKind(get(d, at+".kind", string(draas.FenceNone))),
		Listen:  byName[draas.SiteID, string](d, at+".listen", below(root, "service", service, "fence", "listen")),
		Forward: byName[draas.SiteID, string](d, at+".forward", below(root, "service", service, "fence", "forward")),
		Close:   get[[]string](d, at+".close", nil),
		Open:    get[[]string](d, at+".open", nil),
		Check:   get[[]string](d, at+".check", nil),
		Unit:    get(d, at+".unit", ""),
		Ports:   get[[]uint16](d, at+".ports", nil),
		Proto:   get(d, at+".proto", ""),
		Protect: get[[]netip.Addr](d, at+".protect", nil),
		XDP:     get[[]string](d, at+".xdp", nil),
	}
	switch f.Kind {
	case draas.FencePath:
		f.Margin = marginOwn
	case draas.FenceKernel:
		f.Margin = marginOwn
		if f.Proto == "" {
			f.Proto = "tcp"
		}
	case draas.FenceExec, draas.FenceSystemd:
		// A guard that dies leaves the closing to the watchdog.
		f.Margin = max(marginOperator, c.Watchdog.Timeout)
	}
	f.Margin = get(d, at+".margin", f.Margin)
	devices, _ := asTables(table(root, "service", service, "fence")["device"])
	for i := range devices {
		f.Devices = append(f.Devices, d.device(elem(at+".device", i)))
	}
	return f
}

func (d *decoder) device(at string) Device {
	v := Device{
		Site:         draas.SiteID(get(d, at+".site", "")),
		Kind:         DeviceKind(get(d, at+".kind", "")),
		Off:          get[[]string](d, at+".off", nil),
		Status:       get[[]string](d, at+".status", nil),
		Address:      get(d, at+".address", ""),
		User:         get(d, at+".user", ""),
		PasswordFile: get(d, at+".password_file", ""),
		Timeout:      get(d, at+".timeout", 30*time.Second),
		Stay:         get(d, at+".stay", 5*time.Second),
	}
	if v.Kind == DeviceIPMI {
		v.Cipher = get(d, at+".cipher", 17)
	}
	d.need(at+".site", "name the site that it switches off")
	d.need(at+".kind", `write kind = "ipmi" for a management controller, or "exec" for commands of yours`)
	return v
}
