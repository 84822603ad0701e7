//go:build designate

package designate

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/dns/v2/recordsets"
	"github.com/gophercloud/gophercloud/v2/openstack/dns/v2/zones"

	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/runbook/effecttest"
	"github.com/draasd/draas/schemes/dns"
	"github.com/draasd/draas/schemes/dns/dnstest"
)

// way is the way to a real Keystone and Designate, which need not speak TLS: a
// front stands before it.
type way struct{ keystone, designate http.Handler }

func (w way) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v3") {
		w.keystone.ServeHTTP(rw, r)
		return
	}
	w.designate.ServeHTTP(rw, r)
}

func (way) Writes(r *http.Request) bool { return new(fake).Writes(r) }

func (way) Refuse(rw http.ResponseWriter) { new(fake).Refuse(rw) }

func (way) Throttle(rw http.ResponseWriter, seconds string) { new(fake).Throttle(rw, seconds) }

// real is a Designate that somebody runs, and a fresh zone there.
type real struct {
	admin    *gophercloud.ServiceClient
	zone     *zones.Zone
	way      way
	named    string
	user     string
	password string
	project  string
}

func setting(t testing.TB, key string) string {
	t.Helper()
	v := os.Getenv(key)
	if v == "" {
		t.Fatalf("set %s", key)
	}
	return v
}

func startReal(t *testing.T) *real {
	t.Helper()
	r := &real{named: setting(t, "DESIGNATE_NAMED"), user: setting(t, "OS_USERNAME"), password: setting(t, "OS_PASSWORD"), project: setting(t, "OS_PROJECT_NAME")}
	to := func(key string) (string, http.Handler) {
		u, err := url.Parse(setting(t, key))
		if err != nil {
			t.Fatal(err)
		}
		u.Path = ""
		return u.String(), httputil.NewSingleHostReverseProxy(u)
	}
	var keystone, designate string
	keystone, r.way.keystone = to("OS_AUTH_URL")
	designate, r.way.designate = to("DESIGNATE_URL")
	provider, err := openstack.AuthenticatedClient(t.Context(), gophercloud.AuthOptions{IdentityEndpoint: keystone + "/v3/",
		Username: r.user, Password: r.password, TenantName: r.project, DomainName: "Default"})
	if err != nil {
		t.Fatal(err)
	}
	r.admin = &gophercloud.ServiceClient{ProviderClient: provider, Type: "dns", Endpoint: designate + "/", ResourceBase: designate + "/v2/"}
	name := fmt.Sprintf("t%d.example.org.", time.Now().Unix())
	if r.zone, err = zones.Create(t.Context(), r.admin, zones.CreateOpts{Name: name, Email: "hostmaster@example.org", TTL: 60, Type: "PRIMARY"}).Extract(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); r.zone.Status != "ACTIVE"; <-time.After(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("zone %s is %s", name, r.zone.Status)
		}
		if r.zone, err = zones.Get(t.Context(), r.admin, r.zone.ID).Extract(); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// executor is an effect on one name of the zone.
func (r *real) executor(t testing.TB, names []dns.Name) (*dnstest.Front, *dns.Hosted) {
	t.Helper()
	f := dnstest.StartFront(t, r.way)
	text := strings.NewReplacer("username: draas", "username: "+r.user, "project_name: dr", "project_name: "+r.project).
		Replace(passwordCloud(f.URL, r.password))
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := New(Config{Zone: r.zone.Name, Names: names, CredentialsFile: file, Cloud: "acme", Endpoint: f.URL, CA: f.CA,
		Gate: dnstest.OpenGate(t), Authorities: []dns.Server{{Address: r.named}}, Request: 10 * time.Second, Lag: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return f, e
}

func (r *real) dump(t testing.TB, name string) string {
	t.Helper()
	var out []string
	for _, owner := range []string{name, dns.EpochName(name)} {
		pages, err := recordsets.ListByZone(r.admin, r.zone.ID, recordsets.ListOpts{Name: owner}).AllPages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sets, err := recordsets.ExtractRecordSets(pages)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sets {
			if !leaving(s) {
				out = append(out, fmt.Sprint(s.Name, s.Type, s.TTL, slices.Sorted(slices.Values(s.Records))))
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func named(name string) []dns.Name {
	names := dnstest.Names()
	names[0].Name = name
	return names
}

func TestRealContract(t *testing.T) {
	r := startReal(t)
	var n atomic.Int32
	effecttest.Run(t, func(t testing.TB) effecttest.Harness {
		name := fmt.Sprintf("shop%d.%s", n.Add(1), r.zone.Name)
		front, first := r.executor(t, named(name))
		_, second := r.executor(t, named(name))
		return effecttest.Harness{Effect: first, Second: second, Op: effecttest.SampleOp, Turns: true, Patience: 40 * time.Second, Short: 4 * time.Second,
			Snapshot: func() string { return r.dump(t, name) },
			Inject:   func(f effecttest.Fault) func() { return front.Inject(f, service.Requests) },
			Faults:   []effecttest.Fault{effecttest.LoseRequest, effecttest.LoseAnswer, effecttest.ApplyLate, effecttest.Refuse, effecttest.Blind}}
	})
}

// Types come and go, also before the worker has brought out the change before.
func TestRealTypes(t *testing.T) {
	r := startReal(t)
	names := named("v6." + r.zone.Name)
	names[0].Targets["primary"] = dns.Target{Addresses: dnstest.Addrs("192.0.2.10")}
	names[0].Targets["dr"] = dns.Target{Addresses: dnstest.Addrs("2001:db8::20")}
	_, e := r.executor(t, names)
	for i := range 4 {
		dnstest.MustDo(t, e, dnstest.Op(epoch(i), i%2))
	}
	for i := range 4 {
		if err := dnstest.Do(t, e, dnstest.Op(epoch(i+4), i%2)); err != nil {
			t.Error(err)
		}
	}
	dnstest.Expect(t, e, dnstest.Op(epoch(7), 1), runbook.Yes)
	names = named("c." + r.zone.Name)
	names[0].Targets = dnstest.CNAMEs()[0].Targets
	_, e = r.executor(t, names)
	dnstest.MustDo(t, e, dnstest.Op(1, 0))
	dnstest.MustDo(t, e, dnstest.Op(2, 1))
}
