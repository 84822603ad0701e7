package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
)

// How a frontend looks to its operator: our own, and one of others whose proxy
// is away.
func TestFrontendStatus(t *testing.T) {
	own := api.FrontendService{Service: "shop", Mode: "http", Listen: []string{"192.0.2.80:443"}, State: "open", Site: "primary", Epoch: 3,
		PermitLeftMS: 1430, Flights: 12, Connections: 840, Accepted: 21_000, Held: 210, Replayed: 34, Shed: 1, LongestStallMS: 126.4,
		Sites: []api.FrontendSite{{Site: "dr"}, {Site: "primary", Requests: 91_000, Answers: map[string]int64{"2xx": 90_950, "5xx": 16},
			Errors: map[string]int64{"refused": 30, "silent": 4}, In: 7_189_000, Out: 1_199_198_000}}}
	waits := own
	waits.Service, waits.State, waits.Reason, waits.Outlives, waits.Waiting = "wiki", "wait", "moving", true, 17
	late := own
	late.Service, late.Stands, late.Site, late.Epoch = "forum", "primary", "dr", 4
	late.Sites = []api.FrontendSite{{Site: "dr", Requests: 1207, Answers: map[string]int64{"2xx": 1207}}, {Site: "primary", Requests: 91_000}}
	driven := api.FrontendService{Service: "mail", Mode: "tcp", State: "open", Site: "dr", Epoch: 8, Outlives: true,
		Driven: &api.FrontendDriven{Site: "dr", Repairs: 2, Error: "dial unix /run/haproxy/admin.sock: connect: connection refused"}}
	var out bytes.Buffer
	writeFrontend(&out, &api.FrontendStatus{Frontend: "edge1", Kind: "embedded", Started: noon,
		Members: []api.FollowedMember{{Member: "dr", HeardMS: 310, SameConfig: true}, {Member: "primary", HeardMS: 12_000, Error: "context deadline exceeded"},
			{Member: "witness", HeardMS: -1}},
		Services: []api.FrontendService{own, waits, late, driven},
		VIPs: []api.FrontendVIP{
			{VIP: "web", Has: true, Since: noon, SetBy: "draas", Holder: "edge1", LeaseLeftMS: 240, Addresses: []api.FrontendAddress{
				{Address: "192.0.2.80/24", Interface: "eth0", Present: true}, {Address: "2001:db8::80/64", Interface: "eth0", Present: true, Conflict: "02:00:5e:00:00:07"}}},
			{VIP: "mail", SetBy: "keepalived", Holder: "edge2"},
			{VIP: "old", SetBy: "draas"}},
		Warnings: []string{"primary goes by another failover.toml than this frontend"}})
	golden(t, "frontend", out.Bytes())
}

// The virtual IPs as the members know of them.
func TestVIPsSeen(t *testing.T) {
	var out bytes.Buffer
	addresses := []string{"192.0.2.80", "2001:db8::80"}
	writeVIPsSeen(&out, &api.Status{Reported: []api.Reported{
		{Member: "dr", VIPs: []api.VIPSeen{{VIP: "web", Addresses: addresses, Holders: []api.VIPHolder{
			{Frontend: "edge1", HeardMS: 2700, Has: true}, {Frontend: "edge2", HeardMS: -1}, {Frontend: "edge3", HeardMS: 9000, Has: true}}}}},
		{Member: "witness", VIPs: []api.VIPSeen{{VIP: "web", Addresses: addresses, Holders: []api.VIPHolder{
			{Frontend: "edge1", HeardMS: 20, Trouble: "interface eth0 has no carrier"}, {Frontend: "edge2", HeardMS: 12, Has: true}, {Frontend: "edge3", HeardMS: -1}}}}},
	}})
	golden(t, "vips", out.Bytes())
}

// What belongs into keepalived.conf, and who is told that nothing does.
func TestKeepalivedSnippet(t *testing.T) {
	base, err := os.ReadFile("../../etc/frontend.toml")
	if err != nil {
		t.Fatal(err)
	}
	vip := "\n[vip.web]\nholders = [\"edge1\", \"edge2\"]\naddress = [\"192.0.2.80/24 dev eth0\"]\naddress_at.edge2 = [\"192.0.2.80/24 dev ens3\"]\n"
	var out bytes.Buffer
	p := &program{stdout: &out}
	with := func(more string) {
		p.server.load = func(path string) (*config.Config, error) {
			return config.Parse(path, append(bytes.Clone(base), vip+more...))
		}
	}
	with("")
	if err := p.keepalived("f.toml", "edge1", "web", 51); err == nil || !strings.Contains(err.Error(), "draas sets its addresses itself") {
		t.Errorf("where draas sets them: %v", err)
	}
	with("set_by = \"keepalived\"\ntrack_file = \"/run/draas/web.vip\"\n")
	if err := p.keepalived("f.toml", "edge2", "other", 51); err == nil || !strings.Contains(err.Error(), "no [vip.other]") {
		t.Errorf("one that is not there: %v", err)
	}
	if err := p.keepalived("f.toml", "edge2", "web", 51); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "keepalived", bytes.ReplaceAll(out.Bytes(), []byte(self), []byte("/usr/bin/draasd")))
}
