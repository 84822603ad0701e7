package cloudflare

import (
	"errors"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
	"github.com/draasd/draas/schemes/dns/dnstest"
)

// TestMain lets more tests run at once than there are processors: they wait
// most of their time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

var service = dnstest.Service{
	CompareAndSet: runbook.None,
	SwapsCNAME:    true,
	Fake:          func(t testing.TB, d *dnstest.DNS) dnstest.Fake { return newFake(t, d) },
	Effect: func(t testing.TB, x dnstest.Executor) *dns.Hosted {
		e, err := New(configOf(x))
		if err != nil {
			t.Fatal(err)
		}
		return e
	},
}

func configOf(x dnstest.Executor) Config {
	return Config{Zone: dnstest.Zone, ZoneID: zoneID, Names: x.Names, CredentialsFile: x.Credentials, Gate: x.Gate,
		Endpoint: x.Front.URL + "/client/v4", CA: x.Front.CA, Authorities: x.Authorities, Request: x.Request, Lag: x.Lag}
}

func TestService(t *testing.T) { dnstest.Run(t, service) }

// What another tool made of the name is not replaced.
func TestForeignRecords(t *testing.T) {
	shop := strings.TrimSuffix(dnstest.Shop, ".")
	for name, r := range map[string]record{
		"proxied":              {Name: shop, Type: "A", TTL: 1, Content: "192.0.2.98", Proxied: true},
		"comment":              {Name: shop, Type: "A", TTL: 60, Content: "192.0.2.98", Comment: "managed by terraform"},
		"tags":                 {Name: shop, Type: "AAAA", TTL: 60, Content: "2001:db8::98", Tags: []string{"team:web"}},
		"a CNAME at the epoch": {Name: "_draas." + shop, Type: "CNAME", TTL: 60, Content: "elsewhere.example.net"},
		"a bare text":          {Name: "_draas." + shop, Type: "TXT", TTL: 60, Content: `say "hello"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _, _, e := service.Rig(t)
			f.(*fake).seedRecord(r)
			before := f.Dump()
			if err := dnstest.Do(t, e, dnstest.Op(1, 0)); !errors.Is(err, dns.ErrForeign) {
				t.Errorf("Do: %v", err)
			}
			evidence := dnstest.Expect(t, e, dnstest.Op(1, 0), runbook.No)
			if !strings.Contains(evidence, "not written by draas") || f.Dump() != before {
				t.Errorf("evidence %q; there is\n%s", evidence, f.Dump())
			}
		})
	}
}

// A text that Cloudflare tells without quotes is the same text.
func TestBareEpoch(t *testing.T) {
	t.Parallel()
	f, _, _, e := service.Rig(t)
	f.(*fake).seedRecord(record{Name: "_draas.shop.example.org", Type: "TXT", TTL: 60, Content: "epoch=4 site=dr", Comment: Comment})
	dnstest.MustDo(t, e, dnstest.Op(5, 0))
}

// A listing that lacks something is not taken for an empty one.
func TestListingsThatLack(t *testing.T) {
	for name, lie := range map[string]func(map[string]any){
		"no result":      func(m map[string]any) { m["result"] = nil },
		"another result": func(m map[string]any) { m["result"] = map[string]any{} },
		"no success":     func(m map[string]any) { m["success"] = false; m["result"] = []any{} },
		"nothing":        func(m map[string]any) { clear(m) },
		"fewer":          func(m map[string]any) { m["result"] = []any{} },
		"no count":       func(m map[string]any) { delete(m, "result_info"); m["result"] = []any{} },
		"others":         func(m map[string]any) { m["result"] = []any{record{ID: "1", Name: "example.org", Type: "A"}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _, front, e := service.Rig(t)
			dnstest.MustDo(t, e, dnstest.Op(1, 0))
			before := f.Dump()
			_, writes := front.Counts()
			fk := f.(*fake)
			fk.mu.Lock()
			fk.lie = lie
			fk.mu.Unlock()
			if err := dnstest.Do(t, e, dnstest.Op(2, 1)); !errors.Is(err, dns.ErrLookup) {
				t.Errorf("Do: %v", err)
			}
			if _, after := front.Counts(); after != writes || f.Dump() != before {
				t.Errorf("%d requests; there is\n%s", after-writes, f.Dump())
			}
			dnstest.Expect(t, e, dnstest.Op(1, 0), runbook.Unknown)
		})
	}
}

// Even without a gate a batch fits once, when there is an epoch to delete.
func TestBatchFitsOnce(t *testing.T) {
	t.Parallel()
	f, _, front, e := service.Rig(t)
	dnstest.MustDo(t, e, dnstest.Op(1, 0))
	front.SetRule(dnstest.Writes(dnstest.Keep))
	dnstest.MustDo(t, e, dnstest.Op(2, 1))
	dnstest.MustDo(t, e, dnstest.Op(3, 0))
	before := f.Dump()
	for _, status := range front.Replay() {
		if status != http.StatusBadRequest {
			t.Errorf("a replay ended %d", status)
		}
	}
	if f.Dump() != before {
		t.Errorf("there is\n%s", f.Dump())
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	var good Config
	_, _, _, _ = service.Rig(t, func(x *dnstest.Executor) { good = configOf(*x) })
	write := func(name, text string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, change := range map[string]func(*Config){
		"no zone id":     func(c *Config) { c.ZoneID = "" },
		"zone id":        func(c *Config) { c.ZoneID = "../x" },
		"http":           func(c *Config) { c.Endpoint = "http://api.example.net" },
		"no gate":        func(c *Config) { c.Gate = nil },
		"no token":       func(c *Config) { c.CredentialsFile = write("empty", "\n") },
		"two lines":      func(c *Config) { c.CredentialsFile = write("two", "canary\ncanary\n") },
		"no authorities": func(c *Config) { c.Authorities = nil },
		"short ttl": func(c *Config) {
			c.Names = dnstest.Names()
			c.Names[0].TTL = 5 * time.Second
		},
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An answer that is not a success, or lacks what makes it one, is an error; a
// listing is of the name that was asked for.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"success":true,"errors":[],"result":[{"id":"1","name":"shop.example.org","type":"A","content":"192.0.2.1","ttl":60}],"result_info":{"total_count":1,"total_pages":1}}`))
	f.Add(403, []byte(`{"success":false,"errors":[{"code":9109,"message":"Invalid access token"}],"result":null}`))
	f.Add(200, []byte(`{"success":true,"result":null}`))
	f.Add(503, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		a, err := read(exchange{got: true, status: status, body: body}, "canary")
		if err != nil {
			var s *dns.ServiceError
			if !errors.As(err, &s) || s.Kind == nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("%q", err)
			}
			return
		}
		if status >= 300 || !a.Success {
			t.Errorf("status %d is a success", status)
		}
		records, err := a.records(dnstest.Shop)
		if err != nil {
			return
		}
		held := make(held, 0, len(records))
		for _, r := range records {
			if !strings.EqualFold(strings.TrimSuffix(r.Name, "."), strings.TrimSuffix(dnstest.Shop, ".")) || r.ID == "" {
				t.Errorf("%+v was not asked for", r)
			}
			held = append(held, r)
		}
		// Whatever is there, the whole target comes, and nothing else stays.
		n := dnstest.Names()[0]
		b := batchOf(held, dns.Change{Name: n, Target: n.Targets["dr"], Epoch: "epoch=1 site=dr"})
		kept := 0
		for _, r := range held {
			if replaces(n, r) && r.Type != "TXT" {
				kept++
			}
		}
		kept -= len(b.deletes) - countTXT(n, held)
		if kept+len(b.posts)-1 != len(n.Targets["dr"].Addresses) {
			t.Errorf("%d addresses afterwards: %+v of %+v", kept+len(b.posts)-1, b, held)
		}
	})
}

func countTXT(n dns.Name, records held) int {
	count := 0
	for _, r := range records {
		if replaces(n, r) && r.Type == "TXT" {
			count++
		}
	}
	return count
}
