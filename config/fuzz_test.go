package config_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
)

// mustHold checks what a configuration without problems promises, written
// down once more and plainly.
func mustHold(t *testing.T, c *config.Config) {
	t.Helper()
	want := func(ok bool, what string, args ...any) {
		if !ok {
			t.Helper()
			t.Errorf(what, args...)
		}
	}
	role := map[draas.MemberID]draas.Role{}
	inDomain := map[string]int{}
	for _, m := range c.Members {
		role[m.ID] = m.Role
		inDomain[m.Domain]++
		want(m.Role == draas.RoleSite || m.Role == draas.RoleWitness, "role %q", m.Role)
		want(m.Peer != "" && m.ListenPeer != "" && m.Domain != "", "member %+v", m)
		want(m.Role == draas.RoleSite || m.DNS == "", "a witness that answers: %+v", m)
		for from := range m.PeerFrom {
			_, ok := c.Member(from)
			want(ok && from != m.ID, "peer_from %s", from)
		}
		for from := range m.APIFrom {
			_, member := c.Member(draas.MemberID(from))
			_, edge := c.Frontend(from)
			want((member || edge) && m.API != "", "api_from %s", from)
		}
	}
	want(len(c.Sites()) >= 2 && len(c.Services) >= 1, "%d sites, %d services", len(c.Sites()), len(c.Services))
	want(c.Cluster != "" && c.TLS.CA != "" && c.TLS.Cert != "" && c.TLS.Key != "", "identity %+v", c.TLS)
	want(len(c.Digest()) == 64, "digest %q", c.Digest())
	names := map[string]bool{}
	for _, s := range c.Services {
		switch s.Scheme {
		case config.SchemeDNS:
			z, ok := c.DNS[s.DNS.Zone]
			want(ok && strings.HasSuffix("."+s.DNS.Name, "."+strings.TrimPrefix(z.Name, ".")), "%s is not in %q", s.DNS.Name, z.Name)
			want(!names[s.DNS.Name], "name %s twice", s.DNS.Name)
			names[s.DNS.Name] = true
			want(len(z.NS) >= 2 || z.Provider != config.ProviderEmbedded, "zone %+v", z)
			want(len(s.DNS.Zones()) > 0 && s.Frontend.Use == nil && s.Frontend.Mode == "", "service %+v", s)
		case config.SchemeFrontend:
			want(len(s.DNS.Zones()) == 0 && s.DNS.Name == "" && s.DNS.TTL == 0, "dns %+v", s.DNS)
			holdFrontend(c, &s, want)
		case config.SchemeHybrid:
			z, ok := c.DNS[s.DNS.Zone]
			want(ok && strings.HasSuffix("."+s.DNS.Name, "."+strings.TrimPrefix(z.Name, ".")), "%s is not in %q", s.DNS.Name, z.Name)
			want(!names[s.DNS.Name], "name %s twice", s.DNS.Name)
			names[s.DNS.Name] = true
			holdFrontend(c, &s, want)
			holdHybrid(c, &s, want)
		default:
			t.Errorf("scheme %q", s.Scheme)
		}
		want(len(s.Checks) > 0 && len(s.Sites()) >= 2, "service %+v", s)
		for _, site := range s.Sites() {
			want(role[site.Member()] == draas.RoleSite, "at %q", site)
			for i := range s.Checks {
				for _, m := range c.Members {
					want(s.TargetFor(&s.Checks[i], m.ID, site) != "", "%s cannot look at %s", m.ID, site)
				}
			}
			if s.Fence.Kind == draas.FencePath {
				want(s.Fence.Listen[site] != "" && s.Fence.Forward[site] != "", "path %+v", s.Fence)
			}
		}
		for _, k := range s.Checks {
			want(k.Timeout <= k.Interval && k.Timeout > 0 && k.Rise > 0 && k.Fall > 0, "check %+v", k)
		}
		holdDevices(c, &s, want)
		if s.Lag.Command != nil {
			want(s.Lag.Timeout > 0 && s.Lag.Timeout <= s.Lag.Interval, "lag %+v", s.Lag)
		}
	}
	want(c.TwoSite == (len(c.Members) == 2), "two_site %v with %d members", c.TwoSite, len(c.Members))
	want((c.Watchdog.Device == "") == (c.Watchdog.Timeout == 0) && (c.Pager.Command == nil) == (c.Pager.Timeout == 0), "watchdog %+v, pager %+v", c.Watchdog, c.Pager)
	want(c.TLS.Warn > 0, "warn %s", c.TLS.Warn)
	mustHoldUnits(c, inDomain, want)
	mustHoldFrontends(c, role, want)
}

type wanted func(ok bool, what string, args ...any)

// holdDevices checks what stops a service besides the end of its lease.
func holdDevices(c *config.Config, s *config.Service, want wanted) {
	f := &s.Fence
	counted := f.Kind == draas.FenceExec || f.Kind == draas.FenceSystemd
	want(!counted || f.Margin >= c.Watchdog.Timeout, "margin %s with watchdog %+v", f.Margin, c.Watchdog)
	want(f.Kind != draas.FenceNone || len(f.Devices) == 0, "none with devices %+v", f.Devices)
	at := map[draas.SiteID]bool{}
	for _, v := range f.Devices {
		at[v.Site] = true
		want(slices.Contains(s.Sites(), v.Site) && v.Timeout > 0 && v.Stay >= 0, "device %+v", v)
		exec := v.Kind == config.DeviceExec && len(v.Off) > 0 && len(v.Status) > 0 && v.Address == ""
		ipmi := v.Kind == config.DeviceIPMI && v.Off == nil && v.User != "" && v.PasswordFile != "" && v.Cipher >= 3
		if ipmi {
			_, err := netip.ParseAddrPort(v.Address)
			ipmi = err == nil
		}
		want(exec != ipmi, "device %+v", v)
	}
	want(f.Kind != draas.FenceDevice || len(at) == len(s.Sites()), "devices at %v of %v", at, s.Sites())
}

// mustHoldUnits checks what is decided on.
func mustHoldUnits(c *config.Config, inDomain map[string]int, want wanted) {
	parts := map[draas.ServiceID]int{}
	ids := map[draas.ServiceID]bool{}
	for _, u := range c.Units() {
		want(!ids[u.ID], "unit %s twice", u.ID)
		ids[u.ID] = true
		_, isService := c.Service(u.ID)
		want(u.Group != isService && len(u.Parts) > 0 && len(u.Sites) >= 2 && slices.IsSorted(u.Sites), "unit %s at %v", u.ID, u.Sites)
		want(slices.Contains(u.Sites, u.Home), "home %q", u.Home)
		l := u.Timing.Lease
		want(l.Hold() > 0 && l.Margin < l.Length && 3*u.Timing.Renew <= l.Hold(), "timing %+v", u.Timing)
		want(u.Timing.HoldMax >= u.Timing.Hold && u.Steady > 0 && u.Flaps >= 0, "holds %+v", u.Policy)
		want(u.OnLeaseLoss == draas.LeaseLossFence || u.OnLeaseLoss == draas.LeaseLossServe, "on_lease_loss %q", u.OnLeaseLoss)
		want(u.Confirmations >= 2 || !u.Automatic, "confirmations %d", u.Confirmations)
		devices, needed, lag, slowest := true, c.TwoSite || u.OnLeaseLoss == draas.LeaseLossServe, false, time.Duration(0)
		for _, s := range u.Parts {
			parts[s.ID]++
			want(s.Policy == u.Policy, "%s moves by %+v, its unit by %+v", s.ID, s.Policy, u.Policy)
			want((s.Group == u.ID) == u.Group && (u.Group || s.ID == u.ID), "%s in %s", s.ID, u.ID)
			slowest = max(slowest, s.Fence.Margin)
			lag = lag || s.Lag.Command != nil
			needed = needed || s.Fence.Kind == draas.FenceDevice
			want(!u.Automatic || s.Fence.Kind.OutlivesDaemon(), "automatic with %+v", s.Fence)
			for _, site := range u.Sites {
				want(slices.Contains(s.Sites(), site), "%s is not at %s", s.ID, site)
				devices = devices && slices.ContainsFunc(s.Fence.Devices, func(v config.Device) bool { return v.Site == site })
			}
		}
		want(slowest == l.Margin, "margin %s, slowest fence %s", l.Margin, slowest)
		want(u.MaxDataLoss == 0 || lag, "max_data_loss without a lag command")
		want(devices == (len(u.Switchable()) == len(u.Sites)), "switchable at %v of %v", u.Switchable(), u.Sites)
		rto := c.RTO(u.ID)
		hybrid := slices.ContainsFunc(u.Parts, func(s config.Service) bool { return s.Scheme == config.SchemeHybrid })
		disasters := []string{"site lost", "service dead"}
		if hybrid {
			disasters = append(disasters, "cloud lost", "frontend lost")
		}
		if !slices.ContainsFunc(u.Parts, func(s config.Service) bool { return s.Fence.Kind == draas.FenceDevice }) {
			disasters = append(disasters, "target lost")
		}
		for _, name := range disasters {
			want(slices.ContainsFunc(rto, func(r config.RTO) bool { return r.Disaster == name }), "no budget of a %s", name)
		}
		want(len(rto) == len(disasters), "budgets %v", rto)
		for _, r := range rto {
			want(r.Typical() <= r.Worst(), "%s: typically %s of %s", r.Disaster, r.Typical(), r.Worst())
			if r.Disaster == "target lost" {
				want(r.Worst() >= max(u.Timing.Lease.Margin, c.TakeWithin()), "%v", r)
				continue // nothing is watched or promised there
			}
			want(!u.Automatic || u.MaxRTO == 0 || r.Worst() <= u.MaxRTO, "%s: %v", r.Disaster, r)
			want(r.Worst() >= u.Timing.LeastOutage, "%s: %v with least_outage %s", r.Disaster, r, u.Timing.LeastOutage)
		}
		if u.Automatic {
			want(devices || !needed, "automatic without devices")
			for d, n := range inDomain {
				want(2*(len(c.Members)-n) > len(c.Members) || c.TwoSite, "no majority without %q", d)
			}
		}
	}
	for _, s := range c.Services {
		want(parts[s.ID] == 1, "%s is part of %d units", s.ID, parts[s.ID])
	}
	for _, note := range c.Notes() {
		want(note != "" && !strings.ContainsAny(note, "\n%"), "note %q", note)
	}
}

// FuzzParse: any bytes give either problems or a value that holds what it
// promises, and the same bytes the same.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.toml", "testdata/good/*.toml", "../etc/*.toml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no seeds: %v", err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("f.toml", data)
		again, err2 := config.Parse("f.toml", data)
		if err == nil {
			mustHold(t, c)
			if again.Digest() != c.Digest() {
				t.Error("the digest changes")
			}
			return
		}
		var problems config.Problems
		if !errors.As(err, &problems) || len(problems) == 0 || c != nil {
			t.Fatalf("Parse = %v, %T", c, err)
		}
		lines := strings.Count(string(data), "\n") + 1
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines || p.Wrong == "" || p.Right == "" || strings.ContainsAny(p.String(), "\n\r\x00") {
				t.Errorf("problem %+v in %d lines", p, lines)
			}
		}
		if err2 == nil || err2.Error() != err.Error() {
			t.Errorf("the messages change:\n%v\n%v", err, err2)
		}
	})
}
