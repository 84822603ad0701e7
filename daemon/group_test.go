package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// everywhere writes one file to all members.
func (l *lab) everywhere(change func(string) string) {
	l.t.Helper()
	for _, m := range []string{"primary", "dr", "witness"} {
		l.edit(m, change)
	}
}

// The services of a group move together under one epoch, each behind its own
// fence and under its own name.
func TestGroup(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "balanced")
	l.everywhere(func(text string) string {
		text = strings.Replace(l.anotherService(text), "[service.web]", "[group.crm]\nservices = [\"web\", \"wiki\"]\nhome = \"primary\"\nautomatic = true\n\n[service.web]", 1)
		for _, key := range []string{"home = \"primary\"\n", "automatic = true\n"} {
			head, tail, _ := strings.Cut(text, "[service.web]")
			text = head + "[service.web]" + strings.ReplaceAll(tail, key, "")
		}
		return text
	})
	l.startServiceAt("wiki primary", "primary", l.base+34)
	l.startServiceAt("wiki dr", "dr", l.base+35)
	l.startAll()
	serves := func(site string) bool {
		host, other := "127.0.0.2", "127.0.0.3"
		if site == "dr" {
			host, other = other, host
		}
		for _, port := range []int{l.base + 30, l.base + 33} {
			if l.ask(host, port, time.Second) != site || l.ask(other, port, time.Second) != "" {
				return false
			}
		}
		return true
	}
	ask := func(r api.Request) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		r.Service = "crm"
		l.await(string(r.Move), 20*time.Second, func() bool {
			a, err := l.client("witness").Request(ctx, r)
			return err == nil && a.Accepted
		})
	}
	ask(api.Request{Site: "primary", Request: failover.Request{Move: failover.MoveActivate}})
	l.await("both served at primary", 20*time.Second, func() bool { return serves("primary") })
	l.awaitPhase(failover.PhaseNormal, 20*time.Second)
	ask(api.Request{Site: "dr", Request: failover.Request{Move: failover.MoveSwitchover}})
	l.awaitPhase(failover.PhaseElsewhere, 20*time.Second)
	if !serves("dr") {
		t.Error("not both are served at dr, and there alone")
	}
	sv := l.service("witness")
	if sv.ID != "crm" || len(sv.Parts) != 2 || sv.Epoch != 2 || len(sv.Last.Journal) != 2 {
		t.Errorf("the group is %+v", sv)
	}
	for _, r := range l.status("witness").Reported {
		for _, f := range r.Fences {
			if (r.Member == "dr") != (f.PermitLeftMS > 0) {
				t.Errorf("permit of %s at %s: %d ms left", f.Service, r.Member, f.PermitLeftMS)
			}
		}
	}
	parts := make(map[string]int)
	for _, v := range sv.Views {
		parts[string(v.Service)]++
	}
	if parts["web"] == 0 || parts["wiki"] == 0 || len(parts) != 2 {
		t.Errorf("seen of its services: %v", parts)
	}
	if err := l.stop("wiki dr"); err != nil {
		t.Fatal(err)
	}
	l.await("one of them failed, both move", 30*time.Second, func() bool { return serves("primary") })
}

// Who has to be called is: with the command that helps, once it is needed, and
// again when it is over.
func TestPaged(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "balanced")
	pages := filepath.Join(l.dir, "pages")
	if err := os.Mkdir(pages, 0o700); err != nil {
		t.Fatal(err)
	}
	l.everywhere(func(text string) string {
		return strings.Replace(strings.Replace(text, "automatic = true", "automatic = false", 1), "[tls]",
			fmt.Sprintf("[pager]\ncommand = [\"/bin/sh\", \"-c\", %q]\n\n[tls]", "cat > "+pages+"/$$"), 1)
	})
	l.startAll()
	l.activate()
	if err := l.stop("service primary"); err != nil {
		t.Fatal(err)
	}
	got := func(event api.PageEvent) *api.Page {
		files, err := filepath.Glob(filepath.Join(pages, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			var p api.Page
			if data, err := os.ReadFile(file); err == nil && json.Unmarshal(data, &p) == nil && p.Event == event && p.Key == "stuck:web" {
				return &p
			}
		}
		return nil
	}
	l.await("a page", 30*time.Second, func() bool { return got(api.PageAlarm) != nil })
	if p := got(api.PageAlarm); p.Command != "draasd failover web" || !strings.Contains(p.Text, "automatic = false") || len(p.Reasons) == 0 || p.Cluster != "loopback" {
		t.Errorf("page %+v", p)
	}
	l.startService("primary")
	l.await("its end", 30*time.Second, func() bool { return got(api.PageOver) != nil })
}
