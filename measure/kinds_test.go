package measure

import (
	"strings"
	"testing"
	"time"
)

// TestKindsSideBySide: a site is lost and its name moved. Who asks anew comes
// back at once, whose record's life ends comes back then, each of four users a
// quarter of that life after the other; a browser, a JVM and who is pinned do
// not in this time. The file of requests, the tails and the strips show it.
func TestKindsSideBySide(t *testing.T) {
	first, second := newSite(t, "127.0.0.2", stamped("primary", 1)), newSite(t, "127.0.0.3", stamped("dr", 2))
	second.close()
	second.addr = "127.0.0.3:" + first.port()
	second.open()
	ns := newNameserver(t, records(t, "shop.example. 1 IN A 127.0.0.2"))
	fault := make(chan time.Time, 1)
	move := after(700*time.Millisecond, func() {
		fault <- time.Now()
		first.close()
	})
	follow := after(900*time.Millisecond, func() { ns.handle(records(t, "shop.example. 1 IN A 127.0.0.3")) })
	tried, ttls := make(map[string]bool), make(map[time.Duration]bool)
	r := must(t, t.Context(), Config{URL: "http://shop.example:" + first.port() + "/", Rate: 40, Users: 4, Duration: 2500 * time.Millisecond, Settle: 300 * time.Millisecond,
		Clients: Kinds(), Resolvers: []string{ns.addr}, Fault: fault, Observe: func(e Event) {
			move(e)
			follow(e)
			if e.Err != nil {
				tried[e.Addr] = true
			}
			if e.Client == string(Browser) && e.Sample.Class != 0 {
				ttls[e.TTL.Round(time.Second)] = true
			}
		}})
	if r.Void {
		t.Fatal(r.VoidReason)
	}
	for _, k := range Kinds() {
		o := r.Clients[k]
		last := o.Stale[len(o.Stale)-1]
		if o.FirstFailure == nil || last.Users != 4 || o.Stale[0].Old != 4 || len(o.Strip) < 2 || o.Strip[0].Site != "primary" {
			t.Errorf("%s: %d failed, tail %v, strip %v", k, o.Failed, o.Stale, o.Strip)
		}
		back := k == Fresh || k == TTL || k == KeepAlive
		if o.Recovered != back || (last.Old == 0) != back || back && o.Outages[0].Site != "dr" {
			t.Errorf("%s: recovered %v after %v, tail %v", k, o.Recovered, o.Downtime, o.Stale)
		}
	}
	if d := time.Duration(r.Clients[TTL].Downtime); d < 200*time.Millisecond || d > 1600*time.Millisecond || d < time.Duration(r.Clients[Fresh].Downtime) {
		t.Errorf("ttl was down for %v, fresh for %v", d, r.Clients[Fresh].Downtime)
	}
	if n := len(r.Clients[TTL].Stale); n < 4 {
		t.Errorf("users of ttl came in %d steps: %v", n, r.Clients[TTL].Stale)
	}
	if len(tried) != 1 || !tried["127.0.0.2:"+first.port()] {
		t.Errorf("requests failed at %v", tried)
	}
	if ttls[UnknownTTL] || len(ttls) < 2 {
		t.Errorf("a browser's records had %v left", ttls)
	}
	if r.StaleFrom == nil || r.StaleFrom.Sub(*r.Fault).Abs() > time.Millisecond || !r.Window.From.Before(*r.Fault) || r.Timeline.Addrs[0] != "" || !strings.HasPrefix(r.Timeline.Addrs[1], "127.0.0.2:") {
		t.Errorf("tail from %v, window %v, addresses %v", r.StaleFrom, r.Window, r.Timeline.Addrs)
	}
}
