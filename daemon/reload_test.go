package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// edit rewrites a member's file.
func (l *lab) edit(member string, change func(string) string) {
	l.t.Helper()
	data, err := os.ReadFile(l.file(member))
	if err != nil {
		l.t.Fatal(err)
	}
	text := change(string(data))
	if text == string(data) {
		l.t.Fatalf("the file of %s was not changed", member)
	}
	if err := os.WriteFile(l.file(member), []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) reload(member string) *api.Reload {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := l.client(member).Reload(ctx)
	if err != nil {
		l.t.Fatalf("reload %s: %v", member, err)
	}
	return r
}

// served asks a site as its users do until stopped, and tells how often it did
// not answer.
func (l *lab) served(site string) (stop func() (asked, failed int)) {
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	asked, failed := 0, 0
	wait.Go(func() {
		for ctx.Err() == nil {
			asked++
			if l.ask(hostOf(site), l.base+30, patience) != site {
				failed++
			}
			pause(ctx, 5*time.Millisecond)
		}
	})
	return func() (int, int) {
		cancel()
		wait.Wait()
		return asked, failed
	}
}

// anotherService is web once more, under another name and on other ports.
func (l *lab) anotherService(text string) string {
	one := text[strings.Index(text, "[service.web]"):]
	return text + "\n" + strings.NewReplacer("service.web", "service.wiki", "web.draas.test", "wiki.draas.test",
		fmt.Sprint(l.base+30), fmt.Sprint(l.base+33), fmt.Sprint(l.base+31), fmt.Sprint(l.base+34), fmt.Sprint(l.base+32), fmt.Sprint(l.base+35)).Replace(one)
}

// A file that has been read by all members is in force for all at once; no
// permit is lost over it, and what is looked at as before keeps its verdict.
func TestReload(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "cautious")
	l.startAll()
	l.activate()
	was := l.status("witness").Policy
	stop := l.served("primary")
	change := func(text string) string {
		return l.anotherService(strings.Replace(text, "automatic = true", "automatic = false", 1))
	}
	members := []string{"primary", "dr", "witness"}
	for i, m := range members {
		l.edit(m, change)
		r := l.reload(m)
		if i < 2 && (r.InForce || len(r.Refused) > 0 || len(r.Waiting) == 0) {
			t.Errorf("%s: %+v", m, r)
		}
	}
	inForce := time.Now()
	for _, m := range members {
		l.await("another file in force at "+m, 5*time.Second, func() bool {
			s := l.status(m)
			return s != nil && s.Policy != was && s.Reload != nil && s.Reload.InForce && len(s.Services) == 2
		})
		for _, sv := range l.status(m).Services {
			switch sv.ID {
			case "web":
				if sv.Active != "primary" || sv.Epoch != 1 || sv.Phase != failover.PhaseNormal || sv.Automatic {
					t.Errorf("%s: web is %+v", m, sv)
				}
				for _, v := range sv.Views {
					if v.Verdict != draas.Healthy {
						t.Errorf("%s: %+v", m, v)
					}
				}
			case "wiki":
				if sv.Active != "" || sv.Phase != failover.PhaseInactive {
					t.Errorf("%s: the added service is %+v", m, sv)
				}
			}
		}
	}
	// What was renewed by the new rules has to hold: more than a lease long.
	l.await("renewals by the new rules", 20*time.Second, func() bool { return time.Since(inForce) > 5*time.Second })
	if asked, failed := stop(); failed > 0 || asked == 0 {
		t.Errorf("%d of %d users were not served", failed, asked)
	}
}

// A service that comes with a file is served once it is activated, and closed
// at once when it goes with another, while the one beside it is served on.
func TestReloadServes(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "cautious")
	l.startAll()
	l.activate()
	was, err := os.ReadFile(l.file("dr"))
	if err != nil {
		t.Fatal(err)
	}
	l.startServiceAt("wiki primary", "primary", l.base+34)
	l.startServiceAt("wiki dr", "dr", l.base+35)
	stop := l.served("primary")
	everywhere := func(text string) {
		t.Helper()
		for _, m := range []string{"primary", "dr", "witness"} {
			if err := os.WriteFile(l.file(m), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if r := l.reload(m); len(r.Refused) > 0 {
				t.Fatalf("%s: %q", m, r.Refused)
			}
		}
		l.await("the file in force", 20*time.Second, func() bool { s := l.status("primary"); return s != nil && s.Reload.InForce })
	}
	guards := func() {
		l.hangup("guard primary")
		l.hangup("guard dr")
	}
	wiki := func() string { return l.ask("127.0.0.2", l.base+33, time.Second) }
	everywhere(l.anotherService(string(was)))
	guards()
	if got := wiki(); got != "" {
		t.Errorf("%q answers before wiki was activated", got)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	l.await("wiki activated", 20*time.Second, func() bool {
		a, err := l.client("dr").Request(ctx, api.Request{Service: "wiki", Site: "primary", Request: failover.Request{Move: failover.MoveActivate}})
		return err == nil && a.Accepted
	})
	l.await("wiki is served", 30*time.Second, // it may have to wait a whole permit out
		func() bool { return wiki() == "primary" })
	l.await("wiki settled", 20*time.Second, func() bool {
		s := l.status("dr")
		return s != nil && slices.ContainsFunc(s.Services, func(sv api.ServiceStatus) bool { return sv.ID == "wiki" && sv.Phase == failover.PhaseNormal })
	})
	everywhere(string(was))
	// By itself it would be served for the rest of its permit.
	l.await("wiki is closed", 2*time.Second, func() bool { return wiki() == "" })
	guards()
	if asked, failed := stop(); failed > 0 || asked == 0 {
		t.Errorf("%d of %d users of web were not served", failed, asked)
	}
}

// What cannot be taken over is refused with all that is wrong, and what is in
// use stays.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "balanced")
	l.startAll()
	l.activate()
	was := l.status("dr").Policy
	good, err := os.ReadFile(l.file("dr"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(string) string
		want   []string
	}{
		"not valid": {func(s string) string { return "profle = 1\n" + s + "\nnonsense = 1\n" },
			[]string{"failover.toml:1: profle", "nonsense"}},
		"fixed": {func(s string) string {
			return strings.NewReplacer(`cluster = "loopback"`, `cluster = "other"`, fmt.Sprintf(`"127.0.0.1:%d"`, l.base+12), fmt.Sprintf(`"127.0.0.1:%d"`, l.base+13)).Replace(s)
		}, []string{`cluster: it is "loopback" and the file says "other"`, "member.dr.dns: "}},
	} {
		t.Run(name, func(t *testing.T) {
			l.edit("dr", tc.change)
			r := l.reload("dr")
			all := strings.Join(r.Refused, "\n")
			for _, want := range tc.want {
				if !strings.Contains(all, want) {
					t.Errorf("it does not say %q:\n%s", want, all)
				}
			}
			s := l.status("dr")
			if r.InForce || s.Policy != was || s.Reload == nil || len(s.Reload.Refused) == 0 {
				t.Errorf("status: %+v", s.Reload)
			}
			if !strings.Contains(strings.Join(s.Warnings, "\n"), "refused") {
				t.Errorf("no warning: %q", s.Warnings)
			}
			if err := os.WriteFile(l.file("dr"), good, 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
	if r := l.reload("dr"); !r.InForce || len(r.Refused) > 0 {
		t.Errorf("the file that is in force: %+v", r)
	}
}

// A hangup does what draasd reload does.
func TestHangup(t *testing.T) {
	l := newLabOf(t, "cautious")
	hangup := make(chan os.Signal, 1)
	l.start("daemon dr", func(ctx context.Context) error {
		d, err := New(Options{ConfigPath: l.file("dr"), Log: l.log, Hangup: hangup})
		if err != nil {
			return err
		}
		return d.Run(ctx)
	})
	l.startDaemon("witness")
	l.await("cluster ready", 10*time.Second, func() bool { s := l.status("dr"); return s != nil && len(s.Services) == 1 })
	hangup <- syscall.SIGHUP
	l.await("read again", 5*time.Second, func() bool { s := l.status("dr"); return s != nil && s.Reload != nil && s.Reload.InForce })
}
