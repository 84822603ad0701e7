package main

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// What others have changed is chosen for one by one, by name: --choose says what
// becomes of it, and of nothing else.
func TestSyncChoose(t *testing.T) {
	c := newTwoClouds(t)
	for _, name := range []string{"a", "b", "c,d"} {
		c.primary.Hand().Make("network", fakecloud.Fields{"name": name, "description": "ours"})
	}
	run := append([]string{"run", "--yes"}, fromTo...)
	if code, out, errs := c.sync(t, run...); code != exitOK {
		t.Fatalf("run exits with %d: %s%s", code, out, errs)
	}
	for _, name := range []string{"a", "b", "c,d"} {
		r, err := c.dr.Hand().Do("network", "GET", "networks?name="+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		id := r["networks"].([]any)[0].(map[string]any)["id"].(string)
		if err := c.dr.Hand().Change("network", id, fakecloud.Fields{"description": "theirs"}); err != nil {
			t.Fatal(err)
		}
	}
	described := func(name string) any {
		r, err := c.dr.Hand().Do("network", "GET", "networks?name="+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r["networks"].([]any)[0].(map[string]any)["description"]
	}
	if code, out, _ := c.sync(t, run...); code != exitDiffers || !strings.Contains(out, "--choose KIND/NAME=drop") || !strings.Contains(out, `"theirs" -> "ours"`) {
		t.Fatalf("run exits with %d: %s", code, out)
	}
	// A plan shows what would come of it, and does nothing.
	if code, out, _ := c.sync(t, append([]string{"plan", "--choose", "network/admin/a=drop"}, fromTo...)...); code != exitDiffers || !strings.Contains(out, "~ admin/a (update)") || described("a") != "theirs" {
		t.Errorf("plan exits with %d: %s", code, out)
	}
	if code, out, errs := c.sync(t, append(run, "--choose", "network/admin/a=drop,network/admin/b=keep")...); code != exitDiffers || described("a") != "ours" || described("b") != "theirs" {
		t.Errorf("run exits with %d: %s%s", code, out, errs)
	}
	if code, out, errs := c.sync(t, append(run, "--choose", "network/admin/c,d=drop")...); code != exitOK || described("c,d") != "ours" || described("b") != "theirs" {
		t.Errorf("run exits with %d: %s%s", code, out, errs)
	}
	for wish, want := range map[string]string{
		"network/admin/a=drop": "no network differs", "network/=drop": "want KIND=CHOICE", "netwrk/a=drop": "want KIND=CHOICE", "network/a=lose": "want KIND=CHOICE",
	} {
		if code, _, errs := c.sync(t, append(run, "--choose", wish)...); code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("--choose %s exits with %d: %s", wish, code, errs)
		}
	}
	if code, _, errs := c.sync(t, append(run, "--accept", "drop")...); code != exitOK || !strings.Contains(errs, "nothing waits to be accepted") {
		t.Errorf("exits with %d: %s", code, errs)
	}
}

// Exit codes: 0 clean, 1 something could not be done, 3 others have changed
// something; a failure is worse than a difference.
func TestSyncExitCodes(t *testing.T) {
	c := newTwoClouds(t)
	run := append([]string{"run", "--yes"}, fromTo...)
	c.primary.Hand().Make("network", fakecloud.Fields{"name": "net", "description": "ours"})
	c.dr.Hand().Make("network", fakecloud.Fields{"name": "net", "description": "theirs"})
	if code, out, errs := c.sync(t, run...); code != exitDiffers {
		t.Errorf("a conflict: %d, %s%s", code, out, errs)
	}
	c.primary.Hand().Make("network", fakecloud.Fields{"name": "public", "router:external": true})
	for _, verb := range [][]string{run, append([]string{"plan"}, fromTo...)} {
		if code, out, _ := c.sync(t, verb...); code != exitFailed || !strings.Contains(out, "admin/public (blocked)") || !strings.Contains(out, "[sync.map] says") {
			t.Errorf("%s, blocked and a conflict: %d, %s", verb[0], code, out)
		}
	}
}

// A person's run goes on in the epoch of the daemon's.
func TestSyncGoesOnInTheRecordsEpoch(t *testing.T) {
	c := newTwoClouds(t)
	c.primary.Hand().Make("network", fakecloud.Fields{"name": "net"})
	run := append([]string{"run", "--yes"}, fromTo...)
	if code, out, errs := c.sync(t, run...); code != exitOK {
		t.Fatalf("run exits with %d: %s%s", code, out, errs)
	}
	meta := func(change func(*syncer.Meta)) syncer.Meta {
		store, err := syncer.OpenStore(filepath.Join(filepath.Dir(c.file), "sync.db"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := store.Meta()
		if change != nil {
			change(&m)
			err = errors.Join(err, store.SetMeta(m))
		}
		if err := errors.Join(err, store.Close()); err != nil {
			t.Fatal(err)
		}
		return m
	}
	meta(func(m *syncer.Meta) { m.Epoch = 7 })
	if code, out, errs := c.sync(t, run...); code != exitOK || meta(nil).Epoch != 7 {
		t.Errorf("run exits with %d, epoch %d: %s%s", code, meta(nil).Epoch, out, errs)
	}
	back := []string{"plan", "--from", "dr", "--to", "primary"}
	if code, _, errs := c.sync(t, back...); code != exitFailed || !strings.Contains(errs, "run it at primary, whose records are its own") {
		t.Errorf("the other way exits with %d: %s", code, errs)
	}
}

// Where a daemon answers its word counts more than the flags'.
func TestSyncDirectionIsConfirmed(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*api.Status)
		want   string
	}{
		"as it is":    {func(*api.Status) {}, ""},
		"turned":      {func(s *api.Status) { s.Services[0].Active = "dr" }, "says that dr is active"},
		"in the move": {func(s *api.Status) { s.Services[0].Move = &failover.Move{} }, "shop is not at rest"},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t)
			f.status.Self, f.status.Generation = "witness", 1
			f.status.Services = []api.ServiceStatus{{ID: "shop", Active: "primary", Epoch: draas.EpochOf(1, 4)}}
			tt.change(f.status)
			var o syncFlags
			p := &program{stdout: io.Discard, stderr: io.Discard, now: time.Now, getenv: func(string) string { return "" }}
			o.client = flagsOf(t, f.socket)
			from, to := "primary", "dr"
			o.from, o.to = &from, &to
			cfg := &config.Config{Sync: config.Sync{Follows: "shop", Clouds: map[draas.SiteID]string{"primary": "east", "dr": "west"}}}
			d, err := o.direction(t.Context(), p, cfg)
			if d.close != nil {
				defer d.close()
			}
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%+v, %v", d, err)
				}
				return
			}
			if err != nil || d.epoch != daemon.ReplicationEpoch(1, draas.EpochOf(1, 4)) || d.gate == nil || d.gate.Allow() != nil {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
}

// Each mistake is answered by what is wrong, and where.
func TestSyncMistakes(t *testing.T) {
	c := newTwoClouds(t)
	good := c.primary.YAMLEntry("east") + c.dr.YAMLEntry("west")
	plan := append([]string{"plan"}, fromTo...)
	for _, tt := range []struct{ name, clouds, want string }{
		{"no file", "", "clouds_file in [sync] names it"},
		{"no such cloud", strings.Replace(good, "west:", "wst:", 1), `a cloud "west" (cloud of [member.dr])`},
		{"wrong password", strings.ReplaceAll(good, "password: secret", "password: wrong"), "clouds.yaml has for east are wrong"},
		{"no YAML", "\t{", "not YAML"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.clouds(t, tt.clouds)
			if code, _, errs := c.sync(t, plan...); code != exitFailed || !strings.Contains(errs, tt.want) || strings.Contains(errs, "secret") {
				t.Errorf("exits with %d: %s", code, errs)
			}
		})
	}
	for _, args := range [][]string{{"status"}, {"map"}} {
		if code, _, errs := c.sync(t, args...); code != exitFailed || !strings.Contains(errs, "there are no records") {
			t.Errorf("%s before any run exits with %d: %s", args[0], code, errs)
		}
	}
	if code, _, errs := c.sync(t, "map", "netwrk"); code != exitUsage || !strings.Contains(errs, `did you mean "network"?`) {
		t.Errorf("exits with %d: %s", code, errs)
	}
}
