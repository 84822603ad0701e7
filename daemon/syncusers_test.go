package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/openstack"
)

// usersLab is a carrier of dr that enables users; try is one try.
func usersLab(t *testing.T, try func(ctx context.Context, gate syncer.Gate) (Users, error)) (l *carrierLab, tries *atomic.Int32, silence func()) {
	t.Helper()
	l, silence = newCarrierLab(t, byMove)
	tries = new(atomic.Int32)
	l.carrier.enable = func(ctx context.Context, _ *config.Config, site draas.SiteID, gate syncer.Gate) (Users, error) {
		if tries.Add(1); site != "dr" {
			t.Errorf("enabled at %s", site)
		}
		return try(ctx, gate)
	}
	return l, tries, silence
}

func byMove(s *config.Sync) { s.EnableUsers = config.UsersByMove }

// moved lets dr become the active site, under another epoch.
func (l *carrierLab) moved(epoch draas.Epoch) {
	l.decide(func(sv *failover.ServiceState) {
		sv.Phase, sv.Active, sv.Epoch, sv.Revoked = failover.PhaseRedirecting, "dr", epoch, false
		sv.Move = &failover.Move{Kind: failover.MoveFailover, From: "primary", To: "dr", Epoch: epoch}
	})
	synctest.Wait()
}

// enabledFindings are the findings about users.
func (l *carrierLab) enabledFindings() (all []failover.Finding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.finds {
		if f.Code == enabledCode {
			all = append(all, f)
		}
	}
	return all
}

// Users are enabled as soon as their site is active, once for each move, and the
// history is told.
func TestUsersEnabledOncePerMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, tries, _ := usersLab(t, func(context.Context, syncer.Gate) (Users, error) {
			return Users{Copies: []openstack.Copy{{Enabled: true}, {Enabled: true}, {}}, Changed: 1}, nil
		})
		l.follow(l.state)
		l.decide(func(sv *failover.ServiceState) {
			sv.Phase, sv.Revoked = failover.PhaseFencing, true
			sv.Move = &failover.Move{Kind: failover.MoveFailover, From: "primary", To: "dr", Epoch: 4}
		})
		rest(time.Minute)
		if n := tries.Load(); n != 0 || l.sync(time.Now()).Users != nil {
			t.Fatalf("%d tries while another site may be active", n)
		}
		l.moved(4)
		want := failover.Finding{Service: "shop", Epoch: 4, Step: "sync users", Code: "enabled", Text: "1 of the 3 users that draas made at dr: 2 of them can log in now"}
		if all := l.enabledFindings(); tries.Load() != 1 || len(all) != 1 || all[0] != want {
			t.Fatalf("%d tries, told %+v", tries.Load(), all)
		}
		if u := l.brief(time.Now()).Users; u == nil || u.Enabled != 1 || u.Error != "" {
			t.Errorf("reports %+v", u)
		}
		l.decide(func(sv *failover.ServiceState) { sv.Phase, sv.Last, sv.Move = failover.PhaseElsewhere, sv.Move, nil })
		l.useSync(func(s *config.Sync) { byMove(s); s.Every = time.Minute })
		l.follow(l.state)
		rest(time.Hour)
		if tries.Load() != 1 {
			t.Errorf("%d tries in one epoch", tries.Load())
		}
		l.moved(6)
		if all := l.enabledFindings(); tries.Load() != 2 || len(all) != 2 || all[1].Epoch != 6 {
			t.Errorf("another move: %d tries, told %+v", tries.Load(), all)
		}
	})
}

// Another start does not do again what the history has; what is replayed of it
// comes before the member is in touch.
func TestUsersEnabledBeforeAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, tries, silence := usersLab(t, func(context.Context, syncer.Gate) (Users, error) { return Users{}, nil })
		silence()
		rest(2 * syncLease)
		l.moved(4)
		rest(syncRetry / 2)
		l.state.History = []failover.Record{{Kind: failover.RecordFinding, Service: "shop", Epoch: 4, Text: "enabled (sync users): that"}}
		l.follow(l.state)
		for range 4 * syncRetry / time.Second {
			l.touched(l.clock())
			rest(time.Second)
		}
		if tries.Load() != 0 || len(l.enabledFindings()) != 0 {
			t.Errorf("%d tries, told %+v", tries.Load(), l.enabledFindings())
		}
	})
}

// Where nothing is to be enabled nothing is: by the file, or by what is decided.
func TestUsersLeftAlone(t *testing.T) {
	for _, tt := range []struct {
		name   string
		sync   func(*config.Sync)
		decide func(*failover.ServiceState)
	}{
		{"by command", func(s *config.Sync) { s.EnableUsers = config.UsersByCommand }, nil},
		{"no cloud here", func(s *config.Sync) { delete(s.Clouds, "dr") }, nil},
		{"stands by", nil, func(sv *failover.ServiceState) { sv.Active = "primary" }},
		{"handed over", nil, func(sv *failover.ServiceState) { sv.Revoked = true }},
		{"a move away", nil, func(sv *failover.ServiceState) {
			sv.Last, sv.Move = sv.Move, &failover.Move{Kind: failover.MoveFailback, From: "dr", To: "primary", Epoch: 5}
		}},
		{"first activation", nil, func(sv *failover.ServiceState) { sv.Move.Kind, sv.Move.From = failover.MoveActivate, "" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, tries, _ := usersLab(t, func(context.Context, syncer.Gate) (Users, error) { return Users{}, nil })
				l.useSync(func(s *config.Sync) {
					byMove(s)
					if tt.sync != nil {
						tt.sync(s)
					}
				})
				l.decide(func(sv *failover.ServiceState) {
					sv.Phase, sv.Active, sv.Epoch = failover.PhaseVerifying, "dr", 4
					sv.Move = &failover.Move{Kind: failover.MoveFailover, From: "primary", To: "dr", Epoch: 4}
					if tt.decide != nil {
						tt.decide(sv)
					}
				})
				rest(time.Hour)
				if tries.Load() != 0 {
					t.Errorf("%d tries", tries.Load())
				}
			})
		})
	}
}

// What fails is tried again with growing pauses, counted and told once; what was
// enabled in all tries is told in the end.
func TestUsersTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var well atomic.Bool
		l, tries, _ := usersLab(t, func(context.Context, syncer.Gate) (Users, error) {
			u := Users{Copies: []openstack.Copy{{Enabled: true}, {Enabled: well.Load()}}, Changed: 1}
			if !well.Load() {
				u.Failed = []error{errors.New("change user b:\n503")}
			}
			return u, nil
		})
		l.moved(4)
		rest(5*time.Second + 10*time.Second + time.Second)
		u := l.brief(time.Now()).Users
		if tries.Load() != 3 || u.Failures != 3 || u.Error != "1 of 2 users could not be changed: change user b:; 503" {
			t.Fatalf("%d tries: %+v", tries.Load(), u)
		}
		if n := strings.Count(l.log.String(), "not enabled yet"); n != 1 {
			t.Errorf("told %d times:\n%s", n, l.log.String())
		}
		rest(time.Hour)
		if n := tries.Load(); n < 11 || n > 15 {
			t.Errorf("%d tries in an hour", n)
		}
		well.Store(true)
		rest(syncRetryMost)
		n := int(tries.Load())
		want := fmt.Sprintf("%d of the 2 users that draas made at dr: 2 of them can log in now", n)
		if all := l.enabledFindings(); len(all) != 1 || all[0].Text != want {
			t.Errorf("told %+v after %d tries", all, n)
		}
		if u := l.brief(time.Now()).Users; u.Error != "" || u.Failures != 0 || u.Enabled != n {
			t.Errorf("reports %+v", u)
		}
	})
}

// What is under way ends within one write when the site is not active any more,
// or when the member is out of touch; that is no failure.
func TestUsersStop(t *testing.T) {
	for name, end := range map[string]func(l *carrierLab, silence func()){
		"a move away": func(l *carrierLab, _ func()) {
			l.decide(func(sv *failover.ServiceState) { sv.Revoked = true })
		},
		"out of touch": func(_ *carrierLab, silence func()) { silence() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wrote := 0
				l, tries, silence := usersLab(t, func(ctx context.Context, gate syncer.Gate) (Users, error) {
					for {
						if err := gate.Allow(); err != nil {
							return Users{}, err
						}
						wrote++
						pause(ctx, time.Hour)
						if ctx.Err() != nil {
							return Users{}, ctx.Err()
						}
					}
				})
				l.moved(4)
				rest(time.Minute)
				end(l, silence)
				rest(time.Minute)
				if u := l.brief(time.Now()).Users; wrote != 1 || tries.Load() != 1 || u != nil && u.Failures > 0 || len(l.enabledFindings()) > 0 {
					t.Errorf("%d writes in %d tries: %+v", wrote, tries.Load(), u)
				}
			})
		})
	}
}

// A gate of an earlier takeover stays shut.
func TestPassIsOfItsTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, _ := usersLab(t, func(context.Context, syncer.Gate) (Users, error) { return Users{}, nil })
		l.moved(4)
		old := pass{carrier: l.carrier, over: takeover{"shop", 4}}
		if err := old.Allow(); err != nil {
			t.Fatalf("of this one: %v", err)
		}
		l.moved(6)
		if err := old.Allow(); !errors.Is(err, errOtherLeg) {
			t.Errorf("of the one before: %v", err)
		}
	})
}

// A move that came back before anybody took it over has lost nothing.
func TestNoLossOfAMoveThatCameBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, nil)
		l.decide(func(sv *failover.ServiceState) {
			sv.Active, sv.Epoch = "dr", 4
			sv.Last = &failover.Move{Kind: failover.MoveUndo, From: "dr", To: "dr", Epoch: 4}
		})
		synctest.Wait()
		if len(l.finds) != 0 {
			t.Errorf("told %+v", l.finds)
		}
	})
}

// gateFor is a gate that shuts after some writes.
type gateFor struct{ after int }

func (g *gateFor) Allow() error {
	if g.after--; g.after < 0 {
		return errOtherLeg
	}
	return nil
}

// Against a cloud: those that wait are enabled, and only those; the gate is asked
// before each, and one that fails holds up no other.
func TestEnableUsers(t *testing.T) {
	east, west := fakecloud.New(t, fakecloud.Options{Seed: 1}), fakecloud.New(t, fakecloud.Options{Seed: 2})
	dir := t.TempDir()
	clouds := filepath.Join(dir, "clouds.yaml")
	if err := os.WriteFile(clouds, []byte("clouds:\n"+east.YAMLEntry("east")+west.YAMLEntry("west")), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{Sync: config.Sync{Clouds: map[draas.SiteID]string{"primary": "east", "dr": "west"}, CloudsFile: clouds, Plain: true,
		State: filepath.Join(dir, "sync.db"), Kinds: []string{"domain", "user"}, Workers: 2, Streams: 1, Missing: 2}}
	log := slog.New(slog.DiscardHandler)
	for _, name := range []string{"ada", "bob", "eve"} {
		east.Hand().Make("user", fakecloud.Fields{"name": name, "domain_id": "default", "enabled": name != "eve"})
	}
	r, err := OpenReplication(t.Context(), cfg, "primary", "dr", nil, log)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Run(t.Context(), syncer.Options{Epoch: 1})
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	enable := func(gate syncer.Gate) (Users, error) { return enableUsers(t.Context(), cfg, "dr", gate, log) }

	if u, err := enable(&gateFor{after: 0}); !errors.Is(err, errOtherLeg) || u.Changed != 0 || len(u.Copies) != 3 {
		t.Errorf("the gate is shut: %+v, %v", u, err)
	}
	west.Inject(fakecloud.Fault{Service: fakecloud.Identity, Method: http.MethodPatch, Path: "/users/", Status: http.StatusForbidden, Times: 1})
	u, err := enable(&gateFor{after: 3})
	if err != nil || len(u.Failed) != 1 {
		t.Fatalf("one fails: %+v, %v", u, err)
	}
	again, err := enable(nil)
	if err != nil || u.Changed+again.Changed != 2 || len(again.Failed) != 0 {
		t.Errorf("then: %+v, %v", again, err)
	}
	if text := again.InWords("dr", 2); text != "2 of the 3 users that draas made at dr: 2 of them can log in now" {
		t.Error(text)
	}
	if u, err := enable(nil); err != nil || u.Changed != 0 {
		t.Errorf("once more: %+v, %v", u, err)
	}
	west.Kill()
	if _, err := enable(nil); err == nil {
		t.Error("a cloud that does not answer has enabled its users")
	}
}
