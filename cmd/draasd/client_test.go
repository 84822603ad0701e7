package main

import (
	"context"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// A move's exit code says whether it ended as it was asked for, and its
// output tells the way there.
func TestMoves(t *testing.T) {
	for _, tt := range []struct {
		name string
		args string
		set  func(*fakeDaemon)
		code int
	}{
		{"switchover", "switchover shop dr", func(f *fakeDaemon) { f.watches = [][]*api.Status{stages(failover.MoveSwitchover)} }, exitOK},
		{"switchover-anywhere", "switchover shop", func(f *fakeDaemon) { f.watches = [][]*api.Status{stages(failover.MoveSwitchover)} }, exitOK},
		{"switchover-late", "switchover shop", func(f *fakeDaemon) { f.watches = [][]*api.Status{stages(failover.MoveSwitchover)[6:]} }, exitOK},
		{"switchover-undone", "switchover shop dr", func(f *fakeDaemon) { f.watches = [][]*api.Status{undone()} }, exitFailed},
		{"switchover-refused", "switchover shop dr", func(f *fakeDaemon) { f.answer = refusal() }, exitFailed},
		{"switchover-overtaken", "switchover shop dr", func(f *fakeDaemon) { f.watches = [][]*api.Status{stages(failover.MoveFailover)[1:]} }, exitFailed},
		{"switchover-no-wait", "switchover shop --no-wait", func(*fakeDaemon) {}, exitOK},
		{"switchover-timeout", "switchover shop --timeout 1s", func(f *fakeDaemon) { f.watches = [][]*api.Status{stages(failover.MoveSwitchover)[:2]} }, exitFailed},
		{"switchover-daemon-restarted", "switchover shop dr", func(f *fakeDaemon) {
			s := stages(failover.MoveSwitchover)
			f.watches = [][]*api.Status{s[:2], s[3:]}
		}, exitOK},
		{"switchover-no-leader", "switchover shop dr", func(f *fakeDaemon) { f.refuse = "no leader" }, exitFailed},
		{"switchover-unknown", "switchover shpo dr", func(*fakeDaemon) {}, exitFailed},
		{"failover-yes", "failover shop dr --yes --reason flood", func(f *fakeDaemon) { f.watches = [][]*api.Status{stages(failover.MoveFailover)} }, exitOK},
		{"failover-no-terminal", "failover shop dr", func(*fakeDaemon) {}, exitUsage},
		{"no-time", "failback shop --timeout -1s", func(*fakeDaemon) {}, exitUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t)
			f.answer = accepted(failover.MoveSwitchover)
			if strings.HasPrefix(tt.args, "failover") {
				f.answer = accepted(failover.MoveFailover)
			}
			tt.set(f)
			c := newConsole("", false)
			if code := c.run(t.Context(), append(strings.Fields(tt.args), "--socket", f.socket)); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			c.golden(t, "move-"+tt.name, f)
		})
	}
}

// The request says who asks, why, and what was seen; nothing is asked for
// when the operator does not confirm.
func TestRequest(t *testing.T) {
	for _, tt := range []struct {
		name, args, typed string
		terminal          bool
		code              int
		want              []api.Request
	}{
		{"all", "switchover shop dr --operator bob --reason drill", "", false, exitOK,
			[]api.Request{{Service: "shop", Site: "dr", Request: failover.Request{Move: failover.MoveSwitchover, Operator: "bob", Reason: "drill", Expect: 3}}}},
		{"user", "failback shop", "", false, exitOK,
			[]api.Request{{Service: "shop", Request: failover.Request{Move: failover.MoveFailback, Operator: "ada", Expect: 3}}}},
		{"activate", "activate shop dr", "", false, exitOK,
			[]api.Request{{Service: "shop", Site: "dr", Request: failover.Request{Move: failover.MoveActivate, Operator: "ada", Expect: 3}}}},
		{"confirmed", "failover shop dr", "shop\n", true, exitOK,
			[]api.Request{{Service: "shop", Site: "dr", Request: failover.Request{Move: failover.MoveFailover, Operator: "ada", Expect: 3}}}},
		{"not confirmed", "failover shop dr", "yes\n", true, exitFailed, nil},
		{"end of input", "failover shop dr", "", true, exitFailed, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t)
			f.answer = accepted(failover.MoveFailover)
			c := newConsole(tt.typed, tt.terminal)
			if code := c.run(t.Context(), append(strings.Fields(tt.args), "--no-wait", "--socket", f.socket)); code != tt.code {
				t.Errorf("exit code %d, want %d; %s%s", code, tt.code, &c.out, &c.err)
			}
			if got := f.seen(); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("requests %+v, want %+v", got, tt.want)
			}
			if tt.terminal && !strings.Contains(c.out.String(), "loses:") {
				t.Errorf("it was not told what is lost:\n%s", &c.out)
			}
		})
	}
}

// An interrupt at the question and while a move is followed ends the command
// at once.
func TestInterrupted(t *testing.T) {
	f := startFake(t)
	f.answer = accepted(failover.MoveSwitchover)
	f.watches = [][]*api.Status{stages(failover.MoveSwitchover)[:2]}
	for name, args := range map[string]string{"Type shop to go on": "failover shop", "fencing:": "switchover shop"} {
		ctx, cancel := context.WithCancel(t.Context())
		c := newConsole("", true)
		silent, quiet := io.Pipe() // nobody types
		c.stdin = silent
		code := make(chan int)
		go func() { code <- c.run(ctx, append(strings.Fields(args), "--socket", f.socket)) }()
		eventually(t, func() bool { return strings.Contains(c.out.String(), name) })
		cancel()
		if got := <-code; got != exitFailed {
			t.Errorf("%s: exit code %d", args, got)
		}
		_ = quiet.Close() // lets the reader of the question end
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it did not come to it in 10 s")
		}
	}
}

func TestAsking(t *testing.T) {
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"status", []string{"/v1/status"}},
		{"why shop", []string{"/v1/why?service=shop"}},
		{"history shop --limit 5", []string{"/v1/history?service=shop&limit=5"}},
		{"history", []string{"/v1/history?service=&limit=100"}},
	} {
		f := startFake(t)
		c := newConsole("", false)
		if code := c.run(t.Context(), append(strings.Fields(tt.args), "--socket", f.socket)); code != exitOK {
			t.Errorf("%s: exit code %d: %s", tt.args, code, &c.err)
		}
		if !reflect.DeepEqual(f.asked, tt.want) {
			t.Errorf("%s: asked %q, want %q", tt.args, f.asked, tt.want)
		}
		if c.out.String() == "" {
			t.Errorf("%s: it printed nothing", tt.args)
		}
	}
}

// What --json prints is what the daemon said, nothing lost.
func TestJSON(t *testing.T) {
	f := startFake(t)
	var s api.Status
	var y api.Why
	for args, v := range map[string]struct{ got, want any }{
		"status": {&s, f.status}, "why shop": {&y, f.why},
	} {
		c := newConsole("", false)
		if code := c.run(t.Context(), append(strings.Fields(args), "--json", "--socket", f.socket)); code != exitOK {
			t.Fatalf("%s: exit code %d: %s", args, code, &c.err)
		}
		if err := json.Unmarshal([]byte(c.out.String()), v.got); err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		if !reflect.DeepEqual(v.got, v.want) {
			t.Errorf("%s: got %+v, want %+v", args, v.got, v.want)
		}
	}
	c := newConsole("", false)
	c.run(t.Context(), []string{"history", "--json", "--socket", f.socket})
	lines := strings.Split(strings.TrimSpace(c.out.String()), "\n")
	if len(lines) != len(f.history) {
		t.Fatalf("%d lines for %d records", len(lines), len(f.history))
	}
	for i, line := range lines {
		var r failover.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil || !reflect.DeepEqual(r, f.history[i]) {
			t.Errorf("line %d: %+v, want %+v (%v)", i, r, f.history[i], err)
		}
	}
}

// watched runs status --watch until its output has what it waits for.
func watched(t *testing.T, f *fakeDaemon, c *console, until string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code := make(chan int)
	go func() { code <- c.run(ctx, append([]string{"status", "--watch", "--socket", f.socket}, args...)) }()
	eventually(t, func() bool { return strings.Contains(c.out.String(), until) })
	cancel()
	if got := <-code; got != exitOK {
		t.Errorf("exit code %d: %s", got, &c.err)
	}
}

func TestWatch(t *testing.T) {
	t.Run("lines", func(t *testing.T) {
		f, c := startFake(t), newConsole("", false)
		trouble := lostStatus()
		trouble.Warnings = []string{"no leader"}
		trouble.Leader = ""
		// The daemon is lost after the first two; the next watch goes on.
		f.watches = [][]*api.Status{{healthyStatus(), healthyStatus()}, {trouble, healthyStatus(), stages(failover.MoveSwitchover)[6]}}
		watched(t, f, c, "shop: elsewhere")
		c.golden(t, "watch-lines", f)
	})
	t.Run("json", func(t *testing.T) {
		f, c := startFake(t), newConsole("", true)
		f.watches = [][]*api.Status{{healthyStatus(), lostStatus()}}
		watched(t, f, c, `"self":"dr"`, "--json")
		if n := strings.Count(c.out.String(), "\n"); n != 2 {
			t.Errorf("%d lines for 2 statuses", n)
		}
	})
	t.Run("terminal", func(t *testing.T) {
		f, c := startFake(t), newConsole("", true)
		c.size = func(any) (int, int, bool) { return 40, 8, true }
		f.watches = [][]*api.Status{{healthyStatus(), lostStatus()}}
		f.status = lostStatus() // with what the others report
		watched(t, f, c, "\x1b[J")
		screen, _, _ := strings.Cut(c.out.String(), "\x1b[J")
		lines := strings.Split(strings.TrimPrefix(screen, "\x1b[H"), "\n")
		if len(lines) != 8 { // seven and the cursor's
			t.Errorf("%d lines on a terminal of 8:\n%s", len(lines), screen)
		}
		for _, line := range lines {
			if n := len([]rune(strings.TrimSuffix(line, "\x1b[K"))); n > 40 {
				t.Errorf("%d columns on a terminal of 40: %q", n, line)
			}
		}
		if !strings.Contains(screen, "shop: fencing") {
			t.Errorf("the whole status was not asked for:\n%s", screen)
		}
	})
}
