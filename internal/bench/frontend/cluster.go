package frontend

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// The members, in the order of their addresses.
var members = []draas.MemberID{"primary", "dr", "witness"}

// cluster is three members that run, with guards at the sites, and frontends
// that follow them.
type cluster struct {
	b      *bench
	dir    string
	client *api.Client // of the witness, which nothing here disturbs
}

// head is the part of failover.toml that every cluster here has.
func head(profile string, frontends ...string) string {
	var t strings.Builder
	fmt.Fprintf(&t, "cluster = \"bench\"\nprofile = %q\n[tls]\nca = \"tls/ca.crt\"\ncert = \"tls/member.crt\"\nkey = \"tls/member.key\"\n", profile)
	for i, m := range members {
		role := draas.RoleSite
		if m == "witness" {
			role = draas.RoleWitness
		}
		fmt.Fprintf(&t, "[member.%s]\nrole = %q\npeer = %q\napi = %q\n", m, role, at(i+1, hostMember, peerPort), at(i+1, hostMember, apiPort))
	}
	for _, f := range frontends {
		fmt.Fprintf(&t, "[frontend.%s]\ncontrol = \"data/frontend.sock\"\n", f)
	}
	return t.String()
}

// steady is a service that stays where it is: it is there to be led to.
func steady(name, mode, use, listen string, port int, more string) string {
	return fmt.Sprintf(`[service.%s]
scheme = "frontend"
home = "primary"
address.primary = ["127.66.1.%d"]
address.dr = ["127.66.2.%d"]
[[service.%s.check]]
type = "tcp"
port = %d
[service.%s.frontend]
use = [%q]
mode = %q
listen = [%q]
server.primary = [%q]
server.dr = [%q]
connections = 100000
idle_timeout = "1h"
%s
`, name, hostBackend, hostBackend, name, port, name, use, mode, listen, at(1, hostBackend, port), at(2, hostBackend, port), more)
}

// startCluster makes and starts a cluster of this file, and its frontends.
func (b *bench) startCluster(ctx context.Context, dir, text string, frontends ...string) (*cluster, error) {
	c := &cluster{b: b, dir: filepath.Join(dir, "cluster")}
	if err := b.draasd(ctx, "init", c.dir); err != nil {
		return nil, err
	}
	for _, f := range frontends {
		if err := b.draasd(ctx, "issue", f, "--frontend", "--ca", filepath.Join(c.dir, "ca"), "--out", filepath.Join(c.dir, f, "tls")); err != nil {
			return nil, err
		}
	}
	for _, m := range members {
		if err := os.WriteFile(c.file(string(m)), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write configuration: %w", err)
		}
	}
	for _, f := range frontends {
		if err := os.WriteFile(c.file(f), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write configuration: %w", err)
		}
	}
	if err := b.draasd(ctx, "check", "-c", c.file("primary")); err != nil {
		return nil, err
	}
	for _, m := range members {
		if m != "witness" {
			if _, err := b.crew.start("guard-"+string(m), b.o.Draasd, "guard", "-c", c.file(string(m))); err != nil {
				return nil, err
			}
		}
		if _, err := b.crew.start(string(m), b.o.Draasd, "run", "-c", c.file(string(m))); err != nil {
			return nil, err
		}
	}
	c.client = api.Unix(filepath.Join(c.dir, "witness", "data", "draasd.sock"))
	return c, nil
}

func (c *cluster) close() { c.client.Close() }

func (c *cluster) file(who string) string { return filepath.Join(c.dir, who, "failover.toml") }

// activate brings a service up at the primary site.
func (c *cluster) activate(ctx context.Context, name string) error {
	id := draas.ServiceID(name)
	if err := c.move(ctx, failover.MoveActivate, id, "primary"); err != nil {
		return err
	}
	_, err := c.await(ctx, name+" is active", func(s *api.Status) string {
		if serviceOf(s, id).Active != "primary" {
			return "it is not yet"
		}
		return ""
	})
	return err
}

// frontend starts a frontend.
func (c *cluster) frontend(name string) (*process, error) {
	return c.b.crew.start("draasd-"+name, c.b.o.Draasd, "frontend", "-c", c.file(name))
}

// frontendStatus asks a frontend what it has counted.
func (c *cluster) frontendStatus(ctx context.Context, name string) (*api.FrontendStatus, error) {
	client := api.Unix(filepath.Join(c.dir, name, "data", "frontend.sock"))
	defer client.Close()
	return client.Frontend(ctx)
}

// draasd runs a command to its end.
func (b *bench) draasd(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, b.o.Draasd, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("draasd %s: %w: %s", args[0], err, out)
	}
	return nil
}

// await waits until the cluster is as it should be; lacks says what is missing.
func (c *cluster) await(ctx context.Context, what string, lacks func(*api.Status) string) (*api.Status, error) {
	var status *api.Status
	missing := "no answer"
	err := until(ctx, what, func() bool {
		asking, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		s, err := c.client.Status(asking, true)
		if err != nil {
			missing = err.Error()
			return false
		}
		missing = lacks(s)
		status = s
		return missing == ""
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, missing)
	}
	return status, nil
}

func serviceOf(s *api.Status, id draas.ServiceID) api.ServiceStatus {
	for _, sv := range s.Services {
		if sv.ID == id {
			return sv
		}
	}
	return api.ServiceStatus{}
}

// gathered: every member runs and sees the others.
func gathered(s *api.Status) string {
	if s.Leader == "" || len(s.Members) < len(members) {
		return "there is no leader yet"
	}
	for _, m := range s.Members {
		for _, by := range members {
			if !m.Started || !m.SameConfig || by != m.ID && m.SeenBy[by] != draas.Healthy {
				return fmt.Sprintf("%s does not see %s", by, m.ID)
			}
		}
	}
	return ""
}

// calm: the service is active at a site, and all that look see it and its
// stand-by healthy.
func calm(id draas.ServiceID, site draas.SiteID) func(*api.Status) string {
	return func(s *api.Status) string {
		if lacks := gathered(s); lacks != "" {
			return lacks
		}
		sv := serviceOf(s, id)
		if sv.Active != site || sv.Move != nil {
			return fmt.Sprintf("%s is %s at %q", id, sv.Phase, sv.Active)
		}
		for _, v := range sv.Views {
			// A gate is closed to all but the active site's users; its own
			// member looks behind it.
			if (v.Site == site || draas.SiteID(v.Vantage) == v.Site) && v.Verdict != draas.Healthy {
				return fmt.Sprintf("%s sees %s at %s %s", v.Vantage, id, v.Site, v.Verdict)
			}
		}
		return ""
	}
}

// move asks for a move, again when the cluster refuses it for the moment.
func (c *cluster) move(ctx context.Context, kind failover.MoveKind, id draas.ServiceID, site draas.SiteID) error {
	refused := ""
	err := until(ctx, fmt.Sprintf("%s %s is accepted", kind, id), func() bool {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		a, err := c.client.Request(asking, api.Request{Service: id, Site: site, Request: failover.Request{Move: kind, Operator: "bench"}})
		switch {
		case err != nil:
			refused = err.Error()
		case !a.Accepted:
			refused = fmt.Sprint(a.Record.Reasons)
		}
		return err == nil && a.Accepted
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, refused)
	}
	return nil
}

// acknowledge lets automatic moves be made again.
func (c *cluster) acknowledge(ctx context.Context, id draas.ServiceID) error {
	_, err := c.client.Request(ctx, api.Request{Service: id, Request: failover.Request{Ask: failover.AskAcknowledge, Operator: "bench"}})
	return err
}

// answers waits until an address gives good answers.
func answers(ctx context.Context, address string) error {
	t := &http.Transport{DisableKeepAlives: true}
	return until(ctx, address+" answers", func() bool {
		asking, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(asking, http.MethodGet, "http://"+address+pathSmall, nil)
		if err != nil {
			return false
		}
		res, err := t.RoundTrip(r)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}
