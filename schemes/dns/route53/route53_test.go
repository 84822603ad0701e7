package route53

import (
	"context"
	"errors"
	"flag"
	"fmt"
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
	CompareAndSet: runbook.Strong,
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
	return Config{Zone: dnstest.Zone, ZoneID: "/hostedzone/" + zoneID, Names: x.Names, CredentialsFile: x.Credentials,
		Endpoint: x.Front.URL, CA: x.Front.CA, Authorities: x.Authorities, Request: x.Request, Lag: x.Lag}
}

func TestService(t *testing.T) { dnstest.Run(t, service) }

// What another tool made of the name is not replaced.
func TestForeignSets(t *testing.T) {
	ttl, weight := 300, 10
	for name, set := range map[string]rrset{
		"weighted":             {Name: dnstest.Shop, Type: "A", SetIdentifier: "east", Weight: &weight, TTL: &ttl, Values: []value{{"192.0.2.98"}}},
		"alias":                {Name: dnstest.Shop, Type: "AAAA", AliasTarget: &alias{HostedZoneID: "Z2", DNSName: "lb.example.net."}},
		"policy":               {Name: dnstest.Shop, Type: "A", TTL: &ttl, PolicyID: "p-1", Values: []value{{"192.0.2.98"}}},
		"health":               {Name: dnstest.Shop, Type: "A", TTL: &ttl, HealthCheckID: "h-1", Values: []value{{"192.0.2.98"}}},
		"a CNAME at the epoch": {Name: dns.EpochName(dnstest.Shop), Type: "CNAME", TTL: &ttl, Values: []value{{"elsewhere.example.net."}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _, _, e := service.Rig(t)
			f.(*fake).seedSet(set)
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

func TestBusy(t *testing.T) {
	t.Parallel()
	f, _, _, e := service.Rig(t)
	fk := f.(*fake)
	setBusy := func(b bool) {
		fk.mu.Lock()
		defer fk.mu.Unlock()
		fk.busy = b
	}
	setBusy(true)
	// It gives up when the next pause would be too long: half-way at the latest.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := e.Do(ctx, dnstest.Op(1, 0)); !errors.Is(err, dns.ErrBusy) {
		t.Errorf("Do: %v", err)
	}
	timer := time.AfterFunc(150*time.Millisecond, func() { setBusy(false) })
	defer timer.Stop()
	dnstest.MustDo(t, e, dnstest.Op(1, 0))
}

// The authorities that are asked have the change; Route 53 says that not all
// have.
func TestNotInSync(t *testing.T) {
	t.Parallel()
	f, _, _, e := service.Rig(t, func(x *dnstest.Executor) { x.Lag = 200 * time.Millisecond })
	fk := f.(*fake)
	fk.mu.Lock()
	fk.behind = time.Hour
	fk.mu.Unlock()
	if err := dnstest.Do(t, e, dnstest.Op(1, 0)); err != nil {
		t.Fatal(err)
	}
	if evidence := dnstest.Expect(t, e, dnstest.Op(1, 0), runbook.No); !strings.Contains(evidence, "has not reached all of Route 53's servers") {
		t.Errorf("evidence %q", evidence)
	}
	fk.mu.Lock()
	for id := range fk.changes {
		fk.changes[id] = time.Now()
	}
	fk.mu.Unlock()
	dnstest.Expect(t, e, dnstest.Op(1, 0), runbook.Yes)
}

// A change that Route 53 will not make, whoever asks, ends with its words.
func TestBatchNeverFits(t *testing.T) {
	t.Parallel()
	f, _, front, e := service.Rig(t)
	f.(*fake).never = true
	before := f.Dump()
	err := dnstest.Do(t, e, dnstest.Op(1, 0))
	if !errors.Is(err, dns.ErrMoved) || !strings.Contains(err.Error(), "still tells") || !strings.Contains(err.Error(), "not that one") {
		t.Errorf("Do: %v", err)
	}
	if _, writes := front.Counts(); writes > 5 || f.Dump() != before {
		t.Errorf("%d requests; there is\n%s", writes, f.Dump())
	}
}

func TestNoZone(t *testing.T) {
	t.Parallel()
	var cfg Config
	_, _, _, _ = service.Rig(t, func(x *dnstest.Executor) { cfg = configOf(*x) })
	cfg.ZoneID = "ZOTHER"
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := dnstest.Do(t, e, dnstest.Op(1, 0)); !errors.Is(err, dns.ErrNoZone) {
		t.Errorf("Do: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	var good Config
	_, _, _, _ = service.Rig(t, func(x *dnstest.Executor) { good = configOf(*x) })
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no zone id":      func(c *Config) { c.ZoneID = "" },
		"zone id":         func(c *Config) { c.ZoneID = "Z/../X" },
		"http":            func(c *Config) { c.Endpoint = "http://route53.example.net" },
		"password in url": func(c *Config) { c.Endpoint = "https://a:b@route53.example.net" },
		"no credentials":  func(c *Config) { c.CredentialsFile = empty },
		"no file":         func(c *Config) { c.CredentialsFile += ".not" },
		"no roots":        func(c *Config) { c.CA = empty },
		"no authorities":  func(c *Config) { c.Authorities = nil },
		"elsewhere":       func(c *Config) { c.Zone = "example.com." },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "a:b") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	for text, want := range map[string]string{
		"aws_access_key_id=A\naws_secret_access_key=B":                                       "A B ",
		"[x]\n AWS_Access_Key_Id = A \r\naws_secret_access_key\t= B/+=\naws_session_token=T": "A B/+= T",
		"# c\n; d\n\naws_access_key_id=A\naws_secret_access_key=B\n":                         "A B ",
		"":                    "",
		"aws_access_key_id=A": "",
		"[a]\naws_access_key_id=A\naws_secret_access_key=B\n[b]\n":           "",
		"aws_access_key_id=A\naws_access_key_id=A2\naws_secret_access_key=B": "",
		"aws_access_key_id=A\naws_secret_access_key=canary B":                "",
		"region=canary": "",
	} {
		c, err := parseCredentials([]byte(text))
		got := ""
		if err == nil {
			got = fmt.Sprint(c.id, " ", c.secret, " ", c.token)
		} else if strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", text, err)
		}
		if got != want {
			t.Errorf("%q: %q, want %q (%v)", text, got, want, err)
		}
	}
	c := credentials{"id", "canary", "canary"}
	if s := fmt.Sprintf("%v %+v %#v %s", c, c, c, c); strings.Contains(s, "canary") {
		t.Error(s)
	}
}

// What is accepted means the same when it is written and read again; what is
// not is not quoted.
func FuzzCredentials(f *testing.F) {
	f.Add([]byte("aws_access_key_id=A\naws_secret_access_key=B"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseCredentials(text)
		if err != nil {
			return
		}
		again := fmt.Sprintf("aws_access_key_id = %s\naws_secret_access_key = %s\n", c.id, c.secret)
		if c.token != "" {
			again += "aws_session_token = " + c.token + "\n"
		}
		if c2, err := parseCredentials([]byte(again)); err != nil || c2 != c {
			t.Errorf("%q is %q, %q, %q; again %v", text, c.id, c.secret, c.token, err)
		}
	})
}
