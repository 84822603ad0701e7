package daemon

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/runbook"
)

// dynService is a DNS service that speaks dyndns2 over TLS, in front of a name
// server that users ask.
type dynService struct {
	*httptest.Server
	t       *testing.T
	servers *nameserver.Server

	mu       sync.Mutex
	requests []string
}

func newDynService(t *testing.T) *dynService {
	d := &dynService{t: t, servers: nameserver.Start(t, nameserver.Fake, nameserver.Options{Names: []string{"web.example.org."}})}
	d.Server = httptest.NewTLSServer(d)
	t.Cleanup(d.Close)
	return d
}

func (d *dynService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	user, password, _ := r.BasicAuth()
	if user != "ada" || password != "correct horse" || r.UserAgent() == "" {
		fmt.Fprintln(w, "badauth")
		return
	}
	d.requests = append(d.requests, r.URL.Query().Get("myip"))
	set(d.t, d.servers, r.URL.Query().Get("hostname")+".", r.URL.Query().Get("myip"))
	fmt.Fprintf(w, "good %s\n", r.URL.Query().Get("myip"))
}

func (d *dynService) sent() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.requests, " ")
}

// A service without epochs is told of a move by the new site, when nothing of
// the old one's can come any more.
func TestMovesAtDynDNS2(t *testing.T) {
	t.Parallel()
	service := newDynService(t)
	l := newLabOf(t, "balanced")
	l.everywhere(func(text string) string {
		before, rest, _ := strings.Cut(text, "[dns.demo]")
		_, after, _ := strings.Cut(rest, "[service.web]")
		zone := fmt.Sprintf("[dns.demo]\nprovider = \"dyndns2\"\nzone = \"example.org.\"\ncontact = \"ada.example.org.\"\nendpoint = \"%s/nic/update\"\nca = \"dyn.crt\"\n"+
			"credentials_file = \"dyn.credentials\"\nauthorities = [%q]\nlag = \"5s\"\nlate = \"0s\"\n\n", service.URL, service.servers.Address)
		return strings.Replace(before+zone+"[service.web]"+after, "web.draas.test.", "web.example.org.", 1)
	})
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw})
	for _, site := range []string{"primary", "dr"} {
		for file, text := range map[string]string{"dyn.crt": string(ca), "dyn.credentials": "ada:correct horse\n"} {
			if err := os.WriteFile(filepath.Join(l.dir, site, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.startAll()
	l.activateWithin(30 * time.Second)
	for _, part := range []string{"daemon primary", "guard primary", "service primary"} {
		if err := l.stop(part); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	l.awaitPhase(failover.PhaseElsewhere, 40*time.Second)
	if got := service.sent(); got != "127.0.0.2 127.0.0.3" {
		t.Errorf("the service was sent %s", got)
	}
	if got := service.servers.Lookup("web.example.org.", mdns.TypeA); !strings.Contains(got, "127.0.0.3") {
		t.Errorf("users are led to %s", got)
	}
	c, err := Load(l.file("dr"))
	if err != nil {
		t.Fatal(err)
	}
	if least := c.Quarantine(c.DNS["demo"]); time.Since(began) < least {
		t.Errorf("the service was told after %v; %v are waited from when the old permit is void", time.Since(began), least)
	}
}

// What each provider promises fits into the steps of a plan, however many
// names a zone has.
func TestStepsAreAsLongAsServicesPromise(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{
		"aws.credentials": "aws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n",
		"cf.credentials":  "token\n",
		"dyn.credentials": "ada:secret\n",
		"clouds.yaml": "clouds:\n  Acme_DNS:\n    auth:\n      auth_url: https://192.0.2.70:5000/v3\n      username: draas\n      password: secret\n" +
			"      project_name: dns\n      user_domain_name: Default\n      project_domain_name: Default\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca := httptest.NewTLSServer(nil)
	defer ca.Close()
	if err := os.WriteFile(filepath.Join(dir, "dyn-ca.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../config/testdata/good/hosted.toml")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Replace(string(text), "/etc/draas/cf.credentials", "cf.credentials", 1)
	for i := range 40 {
		all += fmt.Sprintf("[service.more%d]\nscheme = \"dns\"\nhome = \"a\"\naddress = { a = [\"192.0.2.10\"], b = [\"192.0.2.11\"] }\n"+
			"check = [{ type = \"tcp\", port = 80 }]\ndns = { use = \"aws\", also = [\"cf\"], name = \"more%d.example.org.\", ttl = \"60s\" }\nfence = { kind = \"kernel\", ports = [80] }\n", i, i)
	}
	c, err := config.Parse("hosted.toml", []byte(all))
	if err != nil {
		t.Fatal(err)
	}
	w := &wiring{cfg: c.At(dir), policy: policyOf(c)}
	if err := w.policy.Validate(); err != nil {
		t.Fatal(err)
	}
	w.units = unitsOf(&w.policy)
	effects, err := effectsOf(w, means{acts: newActing(), now: func() draas.Reading { return draas.Reading{} }})
	if err != nil {
		t.Fatal(err)
	}
	for unit, p := range w.policy.Services {
		for _, step := range p.Steps {
			promise := effects[unit][step.Effect].Promise()
			if promise.Worst > step.Timeout {
				t.Errorf("%s %s: %v is promised, %v is given", unit, step.Name, promise.Worst, step.Timeout)
			}
		}
	}
	for zone, want := range map[string]runbook.CompareAndSet{"aws": runbook.Strong, "cf": runbook.None, "dyn": runbook.None, "os": runbook.None} {
		effect, err := provider(w, w.cfg.DNS[zone], namesIn(w.cfg, zone), means{acts: newActing(), now: func() draas.Reading { return draas.Reading{} }})
		if err != nil {
			t.Fatal(err)
		}
		if got := effect.Promise().CompareAndSet; got != want || (want == runbook.Strong) != c.DNS[zone].Compares() {
			t.Errorf("%s: %s, want %s", zone, got, want)
		}
	}
}
