package haproxy_test

import (
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/draasd/draas"

	"github.com/draasd/draas/internal/lab/proxy"
	"github.com/draasd/draas/schemes/frontend"
	"github.com/draasd/draas/schemes/frontend/frontendtest"
	"github.com/draasd/draas/schemes/frontend/haproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	for _, service := range []string{"shop", "ledger"} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			var h *proxy.HAProxy
			command := func(lines ...string) func(testing.TB) {
				return func(testing.TB) {
					for _, line := range lines {
						h.Command(line)
					}
				}
			}
			server := func(name, state string) string { return "set server " + service + "/" + name + " state " + state }
			frontendtest.Run(t, func(t testing.TB, spec frontend.Spec) frontendtest.Proxy {
				h = proxy.StartHAProxy(t, spec, spec)
				return driven(t, h, service)
			}, frontendtest.Options{Service: draas.ServiceID(service), Tamper: map[string]func(testing.TB){
				"the other site is let in":     command(server("dr-1", "ready")),
				"the other site is drained":    command(server("dr-2", "drain")),
				"the active site is taken out": command(server("primary-1", "maint"), server("primary-2", "maint")),
				"reload":                       func(testing.TB) { h.Reload() },
				"restart":                      func(testing.TB) { h.Restart() },
			}})
		})
	}
}

func driven(t testing.TB, h *proxy.HAProxy, service string) frontendtest.Driven {
	t.Helper()
	d, err := haproxy.New(haproxy.Config{Socket: h.Socket, Master: h.Master})
	if err != nil {
		t.Fatal(err)
	}
	at := h.Web
	if service == "ledger" {
		at = h.Stream
	}
	return frontendtest.Driven{At: at, Driver: d}
}

// A worker that a reload has left behind cannot be commanded: it ends when
// users are led elsewhere, and not before.
func TestOldWorkerEnds(t *testing.T) {
	t.Parallel()
	spec := frontendtest.Sites(t, "shop")
	h := proxy.StartHAProxy(t, spec, spec)
	d := driven(t, h, "shop").Driver.(*haproxy.Driver)
	lead := func(to frontend.Leading) {
		t.Helper()
		if err := d.Lead(t.Context(), &spec, to); err != nil {
			t.Fatal(err)
		}
		if got, err := d.See(t.Context(), &spec); err != nil || got != to {
			t.Fatalf("leads to %s, %v; want %s", got, err, to)
		}
	}
	lead(frontend.Leading{Site: "primary"})
	under := frontendtest.Open(t, h.Web)
	h.Reload()
	lead(frontend.Leading{Site: "primary", Draining: true})
	if n, err := d.Count(t.Context(), &spec, "primary"); err != nil || n == 0 {
		t.Errorf("%d are under way, %v", n, err)
	}
	if under.Over() {
		t.Error("an answer that was under way has ended with the reload")
	}
	lead(frontend.Leading{Site: "dr"})
	under.Ends(t)
	if n, err := d.Count(t.Context(), &spec, "primary"); err != nil || n != 0 {
		t.Errorf("%d are under way, %v", n, err)
	}
}

// A drained server still takes who has its cookie, as HAProxy means it: the
// sample has a rule against that.
func TestCookieOfADrainedServer(t *testing.T) {
	t.Parallel()
	spec := frontendtest.Sites(t, "shop")
	h := proxy.StartHAProxy(t, spec, spec)
	d := driven(t, h, "shop").Driver
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	for _, c := range []struct {
		to     frontend.Leading
		status int
	}{{frontend.Leading{Site: "primary"}, 200}, {frontend.Leading{Site: "primary", Draining: true}, 503}, {frontend.Leading{Site: "dr"}, 200}} {
		if err := d.Lead(t.Context(), &spec, c.to); err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequest(http.MethodGet, "http://"+h.Web+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.AddCookie(&http.Cookie{Name: "SHOPSRV", Value: "primary1"})
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != c.status || (answer.Header.Get("Retry-After") != "") != (c.status == 503) {
			t.Errorf("led to %s: status %d, %v; want %d", c.to, answer.StatusCode, answer.Header, c.status)
		}
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	spec := frontendtest.Sites(t, "shop")
	h := proxy.StartHAProxy(t, spec, spec)
	p := driven(t, h, "shop")
	frontendtest.Complete(t, p.Driver, p.At, spec)
}

// go test -run xxx -bench Latency -benchtime 20x
func BenchmarkLatency(b *testing.B) {
	for _, service := range []string{"shop", "ledger"} {
		b.Run(service, func(b *testing.B) {
			frontendtest.Latency(b, func(b testing.TB, spec frontend.Spec) frontendtest.Proxy {
				return driven(b, proxy.StartHAProxy(b, spec, spec), service)
			}, frontendtest.Options{Service: draas.ServiceID(service)})
		})
	}
}
