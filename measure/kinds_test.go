package measure

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab"
	"github.com/draasd/draas/rto"
)

// TestKindsSideBySide: a site is lost and its name moved. Who asks anew comes
// back at once, whose record's life ends comes back then, each of four users a
// quarter of that life after the other; a browser, a JVM and who is pinned do
// not in this time. The file of requests, the tails and the strips show it.
func TestKindsSideBySide(t *testing.T) {
	lab.Calmly(t, 500*time.Millisecond, func() func() { return kindsSideBySide(t) })
}

func kindsSideBySide(t *testing.T) (judge func()) {
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
	return func() {
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
}

// TestLiveOfManyUsers: failures start with the first user's and are over with
// the last one's; what lies between is no change.
func TestLiveOfManyUsers(t *testing.T) {
	var l Live
	var lines []string
	add := func(at int, user uint16, site draas.SiteID, err error) {
		e := Event{Client: "ttl", Start: noon, Site: site, Err: err, Sample: rto.Sample{At: time.Duration(at) * time.Millisecond, Done: time.Duration(at+1) * time.Millisecond, User: user}}
		if err != nil {
			e.Sample.Class = rto.Refused
		}
		if line := l.Add(e); line != "" {
			lines = append(lines, line)
		}
	}
	refused := errors.New("refused")
	add(0, 0, "primary", nil)
	add(10, 1, "primary", nil)
	add(20, 0, "", refused)
	add(30, 1, "", refused)
	add(40, 0, "dr", nil)
	add(50, 1, "", refused)
	add(60, 0, "dr", nil)
	add(70, 1, "dr", nil)
	add(80, 0, "dr", nil)
	want := []string{"12:00:00.001 ttl: first good answer from primary", "12:00:00.021 ttl: failures start, refused: refused",
		"12:00:00.071 ttl: good again for all users from dr, 3 failed since 12:00:00.020"}
	if !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
}
