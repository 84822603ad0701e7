package nginx_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab/proxy"
	"github.com/draasd/draas/schemes/frontend"
	"github.com/draasd/draas/schemes/frontend/frontendtest"
	"github.com/draasd/draas/schemes/frontend/nginx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	for service, file := range map[string]string{"shop": "http/shop.conf", "ledger": "stream/ledger.conf"} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			var n *proxy.Nginx
			var spec frontend.Spec
			address := func(site draas.SiteID, i int) string { return spec.Sites[site][i].Address }
			tamper := map[string]func(testing.TB){
				"the file is changed and used": func(testing.TB) {
					n.Edit(file, address("primary", 0), address("dr", 0))
					n.HangUp()
				},
				"restart": func(testing.TB) { n.Restart() },
			}
			if service == "shop" {
				tamper["the file is changed"] = func(testing.TB) { n.Edit(file, address("primary", 0), address("dr", 0)) }
				tamper["reload"] = func(testing.TB) { n.HangUp() }
				tamper["start with the file of a boot"] = func(testing.TB) {
					n.Passive()
					n.Restart()
				}
			}
			frontendtest.Run(t, func(t testing.TB, s frontend.Spec) frontendtest.Proxy {
				n, spec = proxy.StartNginx(t), s
				return driven(t, n, service)
			}, frontendtest.Options{Service: draas.ServiceID(service), Tamper: tamper})
		})
	}
}

func driven(t testing.TB, n *proxy.Nginx, service string) frontendtest.Driven {
	t.Helper()
	d, err := nginx.New(nginx.Config{Include: n.Include, Streams: []draas.ServiceID{"ledger"},
		PIDFile: n.PIDFile, Test: n.Test, Reload: n.Reload})
	if err != nil {
		t.Fatal(err)
	}
	at := n.Web
	if service == "ledger" {
		at = n.Stream
	}
	return frontendtest.Driven{At: at, Driver: d}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	spec := frontendtest.Sites(t, "shop")
	p := driven(t, proxy.StartNginx(t), "shop")
	frontendtest.Complete(t, p.Driver, p.At, spec)
}

// What a driver finds may be amid a reload, or led by a file that others wrote:
// it ends what that leaves behind, too.
func TestWhatIsFound(t *testing.T) {
	t.Parallel()
	spec := frontendtest.Sites(t, "shop")
	n := proxy.StartNginx(t)
	lead := func(d frontend.Driver, site draas.SiteID) {
		t.Helper()
		if err := d.Lead(t.Context(), &spec, frontend.Leading{Site: site}); err != nil {
			t.Fatal(err)
		}
	}
	first := driven(t, n, "shop").Driver
	// Old and new workers answer for 100 ms; which of them a driver hears that
	// has just started is chance.
	const times = 2
	for range times {
		lead(first, "primary")
		under := frontendtest.Open(t, n.Web)
		n.Passive()
		n.HangUp()
		frontendtest.Answered(t, n.Web, "")
		lead(driven(t, n, "shop").Driver, "dr")
		under.Ends(t)
	}
	lead(first, "primary")
	for i := range spec.Sites["primary"] {
		n.Edit("http/shop.conf", spec.Sites["primary"][i].Address, spec.Sites["dr"][i].Address)
	}
	n.HangUp()
	frontendtest.Answered(t, n.Web, "dr")
	under := frontendtest.Open(t, n.Web)
	lead(first, "primary")
	under.Ends(t)
}

// go test -run xxx -bench Latency -benchtime 20x
func BenchmarkLatency(b *testing.B) {
	for _, service := range []string{"shop", "ledger"} {
		b.Run(service, func(b *testing.B) {
			frontendtest.Latency(b, func(b testing.TB, spec frontend.Spec) frontendtest.Proxy {
				return driven(b, proxy.StartNginx(b), service)
			}, frontendtest.Options{Service: draas.ServiceID(service)})
		})
	}
}
