package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/draasd/draas"
	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/failover"
)

func TestMembersJSON(t *testing.T) {
	f := startFake(t)
	c := newConsole("", false)
	if code := c.run(t.Context(), []string{"members", "--json", "--socket", f.socket}); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &c.err)
	}
	var got membership
	if err := json.Unmarshal([]byte(c.out.String()), &got); err != nil || !reflect.DeepEqual(got.Log, f.status.Log) || got.ClusterID != f.status.ClusterID {
		t.Errorf("got %+v (%v)", got, err)
	}
}

// A takeover shows what is known, asks twice, and takes on nothing less than
// both answers and the operator's word.
func TestTakeover(t *testing.T) {
	anew := lonelyStatus()
	anew.Generation, anew.Leader = 1, "dr"
	const atLeastTwo = -2
	notReady := refusal()
	notReady.Record.Reasons = []failover.Reason{{Code: failover.ReasonTarget, Text: "dr has not yet looked at its own shop"}}
	for _, tt := range []struct {
		name, args, typed string
		terminal          bool
		set               func(*fakeDaemon)
		code              int
		forced, asked     int
	}{
		{"both", "--old-site-is-off --reason flood", "off\nacme\n", true, nil, exitOK, 1, 1},
		{"yes", "--old-site-is-off --yes --allow-data-loss", "", false, nil, exitOK, 1, 1},
		{"no-word", "--yes", "", false, nil, exitUsage, 0, 0},
		{"first-no", "--old-site-is-off", "y\n", true, nil, exitFailed, 0, 0},
		{"second-no", "--old-site-is-off", "off\nyes\n", true, nil, exitFailed, 0, 0},
		{"no-terminal", "--old-site-is-off", "", false, nil, exitUsage, 0, 0},
		{"majority", "--old-site-is-off --yes", "", false, func(f *fakeDaemon) { f.status = healthyStatus() }, exitFailed, 0, 0},
		{"no-start", "--old-site-is-off --yes --timeout 300ms", "", false, func(f *fakeDaemon) { f.anew = f.status }, exitFailed, 1, 0},
		{"refused", "--old-site-is-off --yes", "", false, func(f *fakeDaemon) { f.answer = refusal() }, exitFailed, 1, 1},
		{"not-ready", "--old-site-is-off --yes --timeout 1500ms", "", false, func(f *fakeDaemon) { f.answer = notReady }, exitFailed, 1, atLeastTwo},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t)
			f.status, f.anew, f.answer = lonelyStatus(), anew, accepted(failover.MoveFailover)
			if tt.set != nil {
				tt.set(f)
			}
			c := newConsole(tt.typed, tt.terminal)
			if code := c.run(t.Context(), append([]string{"takeover", "--socket", f.socket}, strings.Fields(tt.args)...)); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if n := len(f.seen()); len(f.forced) != tt.forced || tt.asked == atLeastTwo && n < 2 || tt.asked >= 0 && n != tt.asked {
				t.Errorf("forced %v, asked %v", f.forced, f.seen())
			}
			for _, r := range f.seen() {
				want := failover.Request{Move: failover.MoveFailover, Operator: "ada", Reason: r.Reason, Expect: 3, Vouch: true, AllowDataLoss: strings.Contains(tt.args, "loss")}
				if r.Service != "shop" || r.Site != "dr" || r.Request != want {
					t.Errorf("asked %+v", r)
				}
			}
			if tt.name != "majority" {
				c.golden(t, "takeover-"+tt.name, f)
			}
		})
	}
}

func TestLeave(t *testing.T) {
	f := startFake(t)
	c := newConsole("", false)
	if code := c.run(t.Context(), []string{"leave", "--socket", f.socket}); code != exitOK || f.left != 1 {
		t.Errorf("exit code %d, asked %d times", code, f.left)
	}
	c.golden(t, "leave", f)
	f.refuse = "refused: shop is active here: draasd switchover shop first"
	c = newConsole("", false)
	if code := c.run(t.Context(), []string{"leave", "--socket", f.socket}); code != exitFailed {
		t.Errorf("refused, and exit code %d", code)
	}
	c.golden(t, "leave-refused", f)
}

func TestJoin(t *testing.T) {
	var asked []daemon.JoinOptions
	c := newConsole("", false)
	c.server.join = func(_ context.Context, o daemon.JoinOptions) (daemon.Joined, error) {
		asked = append(asked, o)
		if o.Cluster == "bad" {
			return daemon.Joined{}, errors.New(`"bad" is not a cluster ID of 32 hex digits`)
		}
		return daemon.Joined{Member: "dr", Role: draas.RoleSite, Data: "/var/lib/draas"}, nil
	}
	var codes []int
	for _, args := range []string{"join -c f.toml", "join -c f.toml --discard", "join -c f.toml --cluster bad", "join -c f.toml --discard --cluster x"} {
		codes = append(codes, c.run(t.Context(), strings.Fields(args)))
	}
	if want := []int{exitOK, exitOK, exitFailed, exitUsage}; !slices.Equal(codes, want) {
		t.Errorf("exit codes %v, want %v", codes, want)
	}
	if len(asked) != 3 || !asked[1].Discard || asked[2].Cluster != "bad" || asked[0].ConfigPath != "f.toml" {
		t.Errorf("asked %+v", asked)
	}
	c.golden(t, "join", startFake(t))
}

// A member that has left ends with a code of its own, so that the service
// manager does not start it again at once.
func TestRunLeft(t *testing.T) {
	c := newConsole("", false)
	if code := c.exit(&command{name: "run"}, fmt.Errorf("member: %w", daemon.ErrLeft)); code != exitLeft {
		t.Errorf("exit code %d", code)
	}
}
