package daemon

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
)

// calm is a cluster in which nothing is wrong, as primary, its leader, sees it.
func calmSight() sight {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	w := &wiring{cfg: &config.Config{TLS: config.TLS{Warn: 30 * 24 * time.Hour}}, policy: failover.Policy{Digest: "d"},
		units: map[draas.ServiceID][]draas.ServiceID{"shop": {"shop"}}, fenced: map[draas.ServiceID]bool{"shop": true}}
	rules := failover.ServicePolicy{Home: "primary", Sites: []draas.SiteID{"primary", "dr"}, Automatic: true, Fence: draas.FencePath, Confirmations: 2}
	state := failover.State{Version: failover.Version,
		Policy: failover.Policy{Digest: "d", Services: map[draas.ServiceID]failover.ServicePolicy{"shop": rules},
			Members: []failover.MemberPolicy{{ID: "dr", Role: draas.RoleSite, Domain: "dr"}, {ID: "primary", Role: draas.RoleSite, Domain: "primary"}}},
		Members:  map[draas.MemberID]*failover.MemberState{"dr": {Digest: "d", Version: failover.Version}, "primary": {Digest: "d", Version: failover.Version}},
		Services: map[draas.ServiceID]*failover.ServiceState{"shop": {Phase: failover.PhaseNormal, Active: "primary", Epoch: 3}},
	}
	s := &api.Status{Self: "primary", Leader: "primary", At: now, Policy: "d",
		Members:  []api.MemberStatus{{ID: "dr", Started: true, SameConfig: true}, {ID: "primary", Started: true, SameConfig: true}},
		Services: []api.ServiceStatus{{ID: "shop", Phase: failover.PhaseNormal, Active: "primary", Epoch: 3}},
		Reported: []api.Reported{
			{Member: "dr", CertificateEnds: now.Add(365 * 24 * time.Hour), Fences: []api.FenceStatus{{Service: "shop", State: "closed", Epoch: 2}}},
			{Member: "primary", CertificateEnds: now.Add(365 * 24 * time.Hour), Fences: []api.FenceStatus{{Service: "shop", State: "open", Epoch: 3}}},
		}}
	own := quorum.CertificateStatus{NotAfter: now.Add(365 * 24 * time.Hour), CANotAfter: now.Add(3650 * 24 * time.Hour)}
	return sight{status: s, state: state, wiring: w, started: w, own: own}
}

// failedShop is a shop that has failed at primary and stays there.
func failedShop(v *sight, sv failover.ServiceState) {
	sv.Phase, sv.Active, sv.Epoch, sv.Refused = failover.PhaseConfirmed, "primary", 3, "it"
	v.state.Services["shop"] = &sv
	v.status.Services[0].Phase = sv.Phase
}

func someVIP(v *sight, holders ...api.VIPHolder) {
	cfg := *v.wiring.cfg
	cfg.VIPs = []config.VIP{{ID: "web", Holders: []string{"edge1", "edge2"}, Addresses: []config.Held{{Prefix: netip.MustParsePrefix("192.0.2.80/24"), Interface: "eth0"}}}}
	w := *v.wiring
	w.cfg = &cfg
	v.wiring = &w
	v.status.Reported[0].VIPs = []api.VIPSeen{{VIP: "web", Holders: holders}}
}

func TestAlarms(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*sight)
		want   string // part of the text; empty: none at all
		page   bool
		cmd    string
	}{
		{"calm", func(*sight) {}, "", false, ""},
		{"two open", func(v *sight) { v.status.Reported[0].Fences[0].State = "open" }, "MORE THAN ONE FENCE IS OPEN: [dr primary]", true, ""},
		{"no leader", func(v *sight) { v.status.Leader = "" }, "cannot reach a majority", true, ""},
		{"no leader of two sites", func(v *sight) { v.status.Leader, v.wiring.cfg.TwoSite = "", true }, "two sites have no third", true, "draasd takeover --old-site-is-off"},
		{"a frontend that one hears", func(v *sight) {
			v.wiring.cfg.Frontends = []config.Frontend{{ID: "edge1"}}
			v.status.Reported[0].Frontends = []api.FrontendSeen{{Frontend: "edge1", HeardMS: -1}}
			v.status.Reported[1].Frontends = []api.FrontendSeen{{Frontend: "edge1", HeardMS: 400}}
		}, "", false, ""},
		{"a frontend that nobody hears", func(v *sight) {
			v.wiring.cfg.Frontends = []config.Frontend{{ID: "edge1"}}
			v.status.Reported[0].Frontends = []api.FrontendSeen{{Frontend: "edge1", HeardMS: -1}}
			v.status.Reported[1].Frontends = []api.FrontendSeen{{Frontend: "edge1", HeardMS: 3500}}
		}, "frontend edge1 is not heard", true, ""},
		{"a virtual IP at one", func(v *sight) {
			someVIP(v, api.VIPHolder{Frontend: "edge1", HeardMS: 40, Has: true}, api.VIPHolder{Frontend: "edge2", HeardMS: 40})
			// What another member heard before the address moved counts for nothing.
			v.status.Reported[1].VIPs = []api.VIPSeen{{VIP: "web", Holders: []api.VIPHolder{{Frontend: "edge2", HeardMS: 900, Has: true}}}}
		}, "", false, ""},
		{"a virtual IP at two", func(v *sight) {
			someVIP(v, api.VIPHolder{Frontend: "edge1", HeardMS: 40, Has: true}, api.VIPHolder{Frontend: "edge2", HeardMS: 40, Has: true})
		}, "MORE THAN ONE FRONTEND SAYS THAT IT HAS IT: edge1 edge2", true, ""},
		{"a virtual IP at nobody", func(v *sight) {
			someVIP(v, api.VIPHolder{Frontend: "edge1", HeardMS: 3100, Has: true}, api.VIPHolder{Frontend: "edge2", HeardMS: 40})
		}, "users do not reach 192.0.2.80", true, ""},
		{"a virtual IP that one cannot have", func(v *sight) {
			someVIP(v, api.VIPHolder{Frontend: "edge1", HeardMS: 40, Has: true}, api.VIPHolder{Frontend: "edge2", HeardMS: 40, Trouble: "eth0 is down"})
		}, "frontend edge2 and vip web: eth0 is down", false, ""},
		{"another file", func(v *sight) { v.status.Policy = "e" }, "differs from the policy in force", false, ""},
		{"refused file", func(v *sight) { v.status.Reload = &api.Reload{File: "f", Refused: []string{"a", "b"}} }, "f as it is now was refused, a; b; the one in use stays", false, ""},
		{"raft's timing", func(v *sight) {
			other := *v.wiring
			other.cfg = &config.Config{Raft: config.Raft{Election: 1}, Profile: config.Profile{Name: "fast"}, TLS: v.wiring.cfg.TLS}
			v.wiring = &other
		}, "until draasd is restarted", false, ""},
		{"never started", func(v *sight) { v.status.Members[0].Started = false }, "dr has never started", false, ""},
		{"older draasd", func(v *sight) { v.state.Members["dr"].Version = 0 }, "dr runs an older draasd", false, ""},
		{"not joined", func(v *sight) { v.status.Members[0].Started, v.status.Generation = false, 1 }, "draasd join --discard there", false, ""},
		{"quarantine", func(v *sight) {
			v.status.Log = []api.LogMember{{ID: "dr", RaftID: 2, Role: api.LogVoter, Quarantine: "its log went backwards"}}
		},
			"dr is in quarantine, nothing of it counts: its log went backwards", true, "draasd join --discard"},
		{"learner", func(v *sight) { v.status.Log = []api.LogMember{{ID: "dr", Role: api.LogLearner}} }, "dr is catching up", false, ""},
		{"not let in", func(v *sight) {
			v.status.Log = []api.LogMember{{ID: "dr", Role: api.LogJoining, Refused: "primary: its old copy lives"}}
		}, "and is not: primary: its old copy lives", false, ""},
		{"own certificate", func(v *sight) { v.status.Reported[1].CertificateEnds = v.status.At.Add(29 * 24 * time.Hour) },
			"the certificate of primary, or its CA's, ends in 29 days", true, ""},
		{"another's certificate", func(v *sight) { v.status.Reported[0].CertificateEnds = v.status.At.Add(-time.Hour) }, "of dr, or its CA's, has ended", false, ""},
		{"a certificate seen on a connection", func(v *sight) {
			v.status.Reported[0].CertificateEnds = time.Time{}
			v.peers = []quorum.PeerStatus{{Member: "dr", NotAfter: v.status.At.Add(time.Hour)}}
		}, "of dr, or its CA's, ends in 1 hours", false, ""},
		{"untrusted certificate", func(v *sight) { v.own.CANotAfter = time.Time{} }, "is not in its ca.crt", true, ""},
		{"guard silent", func(v *sight) {
			v.status.Reported[1].Error, v.status.Reported[1].Fences = "its guard does not answer: x", nil
		},
			"primary: its guard does not answer", true, ""},
		{"guard with another file", func(v *sight) { v.status.Reported[1].Fences = nil }, "the guard at primary does not know it", true, "systemctl reload draas-guard"},
		{"fence at fault", func(v *sight) { v.status.Reported[1].Fences[0].Error = "flushed" }, "fence at primary: flushed", true, ""},
		{"fence upset", func(v *sight) {
			v.status.Reported[1].Fences[0].Upsets, v.status.Reported[1].Fences[0].LastUpset = 2, "its rules were gone"
		}, "changed by somebody else, 2 times since the guard started, and put right: its rules were gone", true, ""},
		{"active and closed", func(v *sight) { v.status.Reported[1].Fences[0].State = "closed" }, "but its fence is closed", true, ""},
		{"never activated", func(v *sight) { v.status.Services[0].Active = "" }, "draasd activate shop SITE", false, ""},
		{"a dead entry", func(v *sight) {
			v.status.Services[0].Entries = []api.Entry{{Service: "shop", Site: "dr", Turn: 1, Refused: "users can enter nowhere else"}}
		}, "users of shop enter at dr, where no frontend is heard: users can enter nowhere else", true, ""},
		{"an entry", func(v *sight) {
			v.status.Services[0].Entries = []api.Entry{{Service: "shop", Site: "dr", Turn: 1}}
		}, "users of shop enter at dr and are led on to primary: they are served, by a detour", false, ""},
		{"an entry that was asked for", func(v *sight) {
			v.status.Services[0].Entries = []api.Entry{{Service: "shop", Site: "dr", Turn: 1, Operator: "anna"}}
		}, "", false, ""},
		{"an entry that can go back", func(v *sight) {
			v.status.Services[0].Entries = []api.Entry{{Service: "shop", Site: "dr", Turn: 1}}
			entered(v, "east", "west")
		}, "frontends are heard at primary again: draasd enter shop primary", false, "draasd enter shop primary"},
		{"all entries heard", func(v *sight) { entered(v, "east", "west") }, "", false, ""},
		{"an entry that is not heard", func(v *sight) { entered(v, "east") }, "shop: no member hears a frontend at dr: users cannot enter there", true, ""},
		{"a name that does not lead to its entry", func(v *sight) {
			v.status.Reported[1].Users = []api.UserPath{{Service: "shop", Step: "hybrid/dns", Site: "dr", AsDecided: "no", Evidence: "x", Repairs: 3}}
		}, "shop: users are not led to dr as decided (hybrid/dns): x; put right 3 times within an hour and changed again: somebody else writes there, and is not fought until draasd ack shop", true, ""},
		{"moved by itself", func(v *sight) {
			v.state.Services["shop"].Unacked, v.state.Services["shop"].Last = 2, &failover.Move{Epoch: 3}
		}, "has moved by itself 2 times, last to primary", true, "draasd ack shop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := calmSight()
			tt.change(&v)
			all := alarmsOf(v)
			i := slices.IndexFunc(all, func(a alarm) bool { return tt.want != "" && strings.Contains(a.text, tt.want) })
			switch {
			case tt.want == "" && len(all) > 0:
				t.Errorf("alarms %+v", all)
			case tt.want == "":
			case i < 0:
				t.Errorf("no alarm says %q: %+v", tt.want, all)
			case all[i].page != tt.page || all[i].command != tt.cmd:
				t.Errorf("alarm %+v", all[i])
			case len(all) > 1:
				t.Errorf("more than one alarm: %+v", all)
			}
		})
	}
}

// What a person is called for stands against the move, and the command
// overcomes it. Only the leader calls, and nobody who knows is called.
func TestStuck(t *testing.T) {
	off := func(v *sight) {
		p := v.state.Policy.Services["shop"]
		p.Automatic = false
		v.state.Policy.Services["shop"] = p
	}
	stuck := func(change func(*sight)) *alarm {
		v := calmSight()
		failedShop(&v, failover.ServiceState{})
		change(&v)
		for _, a := range alarmsOf(v) {
			if a.key == "stuck:shop" {
				return &a
			}
		}
		return nil
	}
	if a := stuck(off); a == nil || !a.page || a.command != "draasd failover shop" || !strings.Contains(a.text, "automatic = false") || len(a.reasons) == 0 {
		t.Errorf("with automatic moves off: %+v", a)
	}
	if a := stuck(func(v *sight) {
		p := v.state.Policy.Services["shop"]
		p.Warm = true // and dr has not looked at its own
		v.state.Policy.Services["shop"] = p
	}); a == nil || !a.page || a.command != "" {
		t.Errorf("where no site is fit: %+v", a)
	}
	if a := stuck(func(v *sight) { v.status.Leader = "dr" }); a == nil || a.page {
		t.Errorf("at a member that does not lead: %+v", a)
	}
	if a := stuck(func(v *sight) {
		v.state.Services["shop"].Timers = map[string]failover.Timer{"outage": {After: time.Minute}}
	}); a == nil || a.page {
		t.Errorf("while the outage is short: %+v", a)
	}
	know := []failover.Record{{Kind: failover.RecordRefusal, Service: "shop"}, {Kind: failover.RecordAcknowledge, Service: "shop"}, {Kind: failover.RecordRefusal, Service: "mail"}}
	if a := stuck(func(v *sight) { v.state.History = know }); a == nil || a.page {
		t.Errorf("after somebody acknowledged it: %+v", a)
	}
	if a := stuck(func(v *sight) { v.state.History = append(know, know[0]) }); a == nil || !a.page {
		t.Errorf("refused anew since then: %+v", a)
	}
	for want, against := range map[string][]string{
		"draasd failover shop":                           {failover.ReasonAutomatic, failover.ReasonHold},
		"draasd failover shop --allow-data-loss":         {failover.ReasonLoss},
		"draasd failover shop --vouch":                   {failover.ReasonProof},
		"draasd failover shop --allow-data-loss --vouch": {failover.ReasonProof, failover.ReasonLoss},
		"": {failover.ReasonProof, failover.ReasonTarget},
	} {
		set := make(map[string]bool)
		for _, code := range against {
			set[code] = true
		}
		if got := wayOut("shop", set); got != want {
			t.Errorf("against %v: %q, want %q", against, got, want)
		}
	}
}

// entered gives the service a frontend at each site, and has dr's member hear
// those that are named.
func entered(v *sight, heard ...string) {
	p := v.state.Policy.Services["shop"]
	p.Ways = map[draas.ServiceID][]failover.Way{"shop": {{Site: "primary", Frontends: []string{"east"}}, {Site: "dr", Frontends: []string{"west"}}}}
	v.state.Policy.Services["shop"] = p
	all := map[string]failover.Observation{"east": {Frontend: "east", Verdict: draas.Failed}, "west": {Frontend: "west", Verdict: draas.Failed}}
	for _, name := range heard {
		all[name] = failover.Observation{Frontend: name, Verdict: draas.Healthy}
	}
	v.state.Members["dr"].Frontends = all
}
