package designate

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/draasd/draas"
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
	Requests:      3, // the epoch, A and AAAA
	Fake:          func(t testing.TB, d *dnstest.DNS) dnstest.Fake { return newFake(t, d) },
	Effect: func(t testing.TB, x dnstest.Executor) *dns.Hosted {
		e, err := New(configOf(x))
		if err != nil {
			t.Fatal(err)
		}
		return e
	},
	File: func(front *dnstest.Front, secret string) string { return passwordCloud(front.URL, secret) },
}

// epoch is one above 1.
func epoch(n int) draas.Epoch { return draas.Epoch(n + 2) }

func passwordCloud(url, password string) string {
	return fmt.Sprintf(`clouds:
  acme:
    auth:
      auth_url: %s/v3/
      username: draas
      password: %q
      project_name: dr
      user_domain_name: Default
      project_domain_name: Default
    region_name: RegionOne
`, url, password)
}

func configOf(x dnstest.Executor) Config {
	return Config{Zone: dnstest.Zone, ZoneID: zoneID, Names: x.Names, CredentialsFile: x.Credentials, Cloud: "acme", Gate: x.Gate,
		CA: x.Front.CA, Authorities: x.Authorities, Request: x.Request, Lag: x.Lag}
}

func TestService(t *testing.T) { dnstest.Run(t, service) }

// A token that ends in the middle of a move is renewed, at whichever request.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	f, _, front, e := service.Rig(t)
	fk := f.(*fake)
	dnstest.MustDo(t, e, dnstest.Op(1, 0))
	for at := range 6 {
		n := 0
		front.SetRule(func(r *http.Request, _ bool) dnstest.Fate {
			if !strings.HasPrefix(r.URL.Path, "/v3/") {
				if n == at {
					fk.expire()
				}
				n++
			}
			return dnstest.Pass
		})
		dnstest.MustDo(t, e, dnstest.Op(epoch(at), (at+1)%2))
		if n <= at {
			t.Fatalf("only %d requests", n)
		}
	}
	fk.mu.Lock()
	defer fk.mu.Unlock()
	if fk.logins != 7 {
		t.Errorf("%d logins", fk.logins)
	}
}

func TestApplicationCredential(t *testing.T) {
	t.Parallel()
	s := service
	s.File = func(front *dnstest.Front, secret string) string {
		return fmt.Sprintf("clouds:\n  acme:\n    auth_type: v3applicationcredential\n    auth:\n      auth_url: %s/v3/\n"+
			"      application_credential_id: draas\n      application_credential_secret: %q\n", front.URL, secret)
	}
	_, _, _, e := s.Rig(t)
	dnstest.MustDo(t, e, dnstest.Op(1, 0))
	dnstest.MustDo(t, e, dnstest.Op(2, 1))
}

// Without an id the zone is found by its name; the endpoint may be given.
func TestFindsZone(t *testing.T) {
	t.Parallel()
	var cfg Config
	_, _, front, _ := service.Rig(t, func(x *dnstest.Executor) { cfg = configOf(*x) })
	cfg.ZoneID, cfg.Endpoint = "", front.URL+"/dns"
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	dnstest.MustDo(t, e, dnstest.Op(1, 0))
	cfg.Zone, cfg.Names = "example.com.", dnstest.Names()
	cfg.Names[0].Name = "shop.example.com."
	if e, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := dnstest.Do(t, e, dnstest.Op(2, 0)); !errors.Is(err, dns.ErrNoZone) {
		t.Errorf("Do: %v", err)
	}
}

// Designate has the records, and its worker has not brought them out.
func TestPending(t *testing.T) {
	for _, stuck := range []string{"PENDING", "ERROR"} {
		t.Run(stuck, func(t *testing.T) {
			t.Parallel()
			f, _, _, e := service.Rig(t, func(x *dnstest.Executor) { x.Lag = 200 * time.Millisecond })
			fk := f.(*fake)
			fk.mu.Lock()
			fk.stuck = stuck
			fk.mu.Unlock()
			if err := dnstest.Do(t, e, dnstest.Op(1, 0)); err != nil {
				t.Fatal(err)
			}
			evidence := dnstest.Expect(t, e, dnstest.Op(1, 0), runbook.No)
			if !strings.Contains(evidence, "shop.example.org. A is in status "+stuck) {
				t.Errorf("evidence %q", evidence)
			}
			fk.mu.Lock()
			fk.stuck = ""
			fk.mu.Unlock()
			dnstest.Expect(t, e, dnstest.Op(1, 0), runbook.Yes)
		})
	}
}

// What Neutron keeps is not written, and Designate says so.
func TestManaged(t *testing.T) {
	t.Parallel()
	f, _, _, e := service.Rig(t)
	f.Seed(dnstest.RR(t, "%s 60 IN A 192.0.2.98", dnstest.Shop), dnstest.RR(t, `_draas.%s 60 IN TXT "epoch=1 site=primary"`, dnstest.Shop))
	fk := f.(*fake)
	fk.mu.Lock()
	fk.managed = true
	fk.mu.Unlock()
	before := f.Dump()
	if err := dnstest.Do(t, e, dnstest.Op(2, 1)); !errors.Is(err, dns.ErrChange) || !strings.Contains(err.Error(), "Managed records may not be updated") {
		t.Errorf("Do: %v", err)
	}
	if f.Dump() != before {
		t.Errorf("there is\n%s", f.Dump())
	}
}

// Cut off between two of its requests, a move is taken up where it was.
func TestHalfWay(t *testing.T) {
	t.Parallel()
	f, _, front, e := service.Rig(t)
	dnstest.MustDo(t, e, dnstest.Op(1, 0))
	for lost := range 3 {
		n := 0
		front.SetRule(func(_ *http.Request, write bool) dnstest.Fate {
			if !write {
				return dnstest.Pass
			}
			if n++; n == lost+1 {
				return dnstest.Lose
			}
			return dnstest.Pass
		})
		op := dnstest.Op(epoch(lost), (lost+1)%2)
		if err := dnstest.Do(t, e, op); !errors.Is(err, dns.ErrUnanswered) {
			t.Errorf("Do: %v", err)
		}
		dnstest.Expect(t, e, op, runbook.No)
		front.SetRule(nil)
		dnstest.MustDo(t, e, op)
	}
	if dump := f.Dump(); strings.Count(dump, "\n") != 2 {
		t.Errorf("there is\n%s", dump)
	}
}

// A listing that lacks something is not taken for an empty one.
func TestListingsThatLack(t *testing.T) {
	for name, lie := range map[string]func(map[string]any){
		"no list":      func(m map[string]any) { delete(m, "recordsets") },
		"null":         func(m map[string]any) { m["recordsets"] = nil },
		"another list": func(m map[string]any) { m["recordsets"] = "none" },
		"nothing":      func(m map[string]any) { clear(m) },
		"fewer":        func(m map[string]any) { m["recordsets"] = []any{} },
		"others":       func(m map[string]any) { m["recordsets"] = []any{rrset{ID: "1", Name: "example.org.", Type: "A"}} },
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
		"zone id": func(c *Config) { c.ZoneID = "../x" },
		"http":    func(c *Config) { c.Endpoint = "http://dns.example.net" },
		"http keystone": func(c *Config) {
			c.CredentialsFile = write("http", passwordCloud("http://keystone.example.net", "canary"))
		},
		"no gate":       func(c *Config) { c.Gate = nil },
		"no cloud":      func(c *Config) { c.Cloud = "" },
		"another cloud": func(c *Config) { c.Cloud = "other" },
		"no yaml":       func(c *Config) { c.CredentialsFile = write("yaml", "clouds: [canary") },
		"no secret": func(c *Config) {
			c.CredentialsFile = write("secret", passwordCloud("https://keystone.example.net", ""))
		},
		"no authorities": func(c *Config) { c.Authorities = nil },
		"no ttl": func(c *Config) {
			c.Names = dnstest.Names()
			c.Names[0].TTL = 0
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

func TestCloudPrintsNoSecret(t *testing.T) {
	c, err := parseCloud([]byte(passwordCloud("https://keystone.example.net", "canary")), "acme", "")
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", c, c, c, c); strings.Contains(s, "canary") || !strings.Contains(s, "keystone.example.net") {
		t.Error(s)
	}
}

// What is accepted leads somewhere by TLS, with a secret; what is not is not
// quoted.
func FuzzCloud(f *testing.F) {
	f.Add([]byte(passwordCloud("https://keystone.example.net", "CANARY"))) // no name that may be quoted
	f.Add([]byte("clouds: {acme: {profile: x, auth: {auth_url: https://a}}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseCloud(text, "acme", "")
		if err != nil {
			if strings.Contains(err.Error(), "CANARY") {
				t.Error(err)
			}
			return
		}
		if !strings.HasPrefix(c.Auth().IdentityEndpoint, "https://") || strings.Join(c.Secrets(), "") == "" {
			t.Errorf("%q was accepted", text)
		}
	})
}

// A page without a list is none, and a list is of the name that was asked for.
func FuzzListing(f *testing.F) {
	f.Add([]byte(`{"recordsets":null}`))
	f.Add([]byte(`{"recordsets":[{"id":"1","name":"example.org.","type":"A"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var l listing
		if json.Unmarshal(body, &l) != nil || l.check(dnstest.Shop) != nil {
			return
		}
		if l.RecordSets == nil || !bytes.Contains(bytes.ToLower(body), []byte("recordsets")) {
			t.Errorf("%q is a listing", body)
		}
		var h dns.Held
		for _, set := range l.RecordSets {
			if !strings.EqualFold(strings.TrimSuffix(set.Name, "."), strings.TrimSuffix(dnstest.Shop, ".")) || set.ID == "" {
				t.Errorf("%+v was not asked for", set)
			}
			h.Add(dnstest.Names()[0], set.Name, set.Type, set.Records)
		}
	})
}
