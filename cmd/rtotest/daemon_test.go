package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/measure"
	"github.com/draasd/draas/runbook"
)

// TestJoined: a disaster is measured while a daemon whose clock is 1.5 s
// ahead tells of its move: the parts of the downtime are where they were, on
// the clock of the measurement, and its offset is stated.
func TestJoined(t *testing.T) {
	f := newFakeDaemon(t, shop())
	d := newDisaster(t)
	var moving sync.WaitGroup
	defer moving.Wait()
	const step = 60 * time.Millisecond
	moving.Go(func() { // the disaster's file shows when it begins
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for !exists(d.file) {
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return
			}
		}
		f.failover(60*time.Millisecond, step)
	})
	code, stdout, stderr := rtotest(d.args("--json", "--socket", f.socket, "--runs", "1", "--inject", d.lasting(600))...)
	s := decodeSeries(t, stdout)
	if code != exitMet || len(s.Runs) != 1 || s.Runs[0].Daemon == nil || len(s.Runs[0].Daemon.Moves) != 1 {
		t.Fatalf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	r := s.Runs[0]
	got := make(map[string]time.Duration)
	var sum time.Duration
	for _, p := range r.Parts {
		got[p.Name], sum = time.Duration(p.Length), sum+time.Duration(p.Length)
	}
	if (sum - time.Duration(r.Downtime)).Abs() > time.Microsecond {
		t.Errorf("the parts add up to %v, the downtime is %v", sum, r.Downtime)
	}
	for _, part := range []string{"agree", "confirm", "fence", "act"} {
		if (got[part] - step).Abs() > 5*time.Millisecond {
			t.Errorf("%s took %v, want %v: %v", part, got[part], step, got)
		}
	}
	clock := r.Daemon.Members[0]
	if off := time.Duration(clock.Offset) - f.off; !clock.Known || clock.Member != "witness" || off.Abs() > time.Duration(clock.Error)+time.Millisecond || clock.Samples < 2 {
		t.Errorf("%+v, is ahead by %v", clock, f.off)
	}
	m := r.Daemon.Moves[0]
	if m.Turns[0].By != "witness" || m.Turns[3].By != "dr" || !m.Turns[3].Shifted || m.Evidence == "" || !m.Complete {
		t.Errorf("%+v", m)
	}
	// The other member's clock is not known: it lies where those that are do.
	if at := m.Turns[3].At.Sub(m.Turns[0].At); (at - 3*step).Abs() > time.Millisecond {
		t.Errorf("activated %v after the suspicion", at)
	}
	if !strings.Contains(stderr, "draasd: shop ") {
		t.Errorf("no phase is shown while it measures:\n%s", stderr)
	}
}

// TestExpectedLoss: what the daemon expects to be lost is reported beside what
// was measured, with who says so; and where a cloud is copied it is waited for
// when it is told after the move.
func TestExpectedLoss(t *testing.T) {
	f := newFakeDaemon(t, shop())
	f.status.Reported = []api.Reported{{Member: "dr", Sync: &api.SyncBrief{Follows: "shop", Source: "primary"}}}
	d := newDisaster(t)
	var moving sync.WaitGroup
	defer moving.Wait()
	moving.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for told := false; ; {
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return
			}
			switch {
			case !told && exists(d.file):
				f.failover(20*time.Millisecond, 10*time.Millisecond)
				told = true
			case told && f.asked() > 0: // the move has ended long ago
				f.record(failover.Record{Kind: failover.RecordFinding, Epoch: 4, Member: "dr", By: "dr",
					Text: "expected loss (sync): the copy of primary's cloud was 4.2s behind, with at least 3 objects (40 MiB) missing"})
				return
			}
		}
	})
	page := filepath.Join(t.TempDir(), "page.html")
	code, stdout, stderr := rtotest(d.args("--socket", f.socket, "--runs", "1", "--html", page, "--inject", d.lasting(300))...)
	const line = "  expected loss  4.20 s, told by dr in draasd's history: the copy of primary's cloud was 4.2s behind, with at least 3 objects (40 MiB) missing\n"
	if code != exitMet || !strings.Contains(stdout, line) || strings.Index(stdout, line) < strings.Index(stdout, "  downtime ") {
		t.Fatalf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "<small>expected loss</small>") {
		t.Errorf("the page has none: %v", err)
	}
}

// TestDaemonFlags: what cannot be asked is told at once, and a daemon that
// does not answer is no reason not to measure.
func TestDaemonFlags(t *testing.T) {
	two := newFakeDaemon(t, shop(), api.ServiceStatus{ID: "mail"})
	s := newService(t, never, never, nil)
	for args, want := range map[string]string{
		"--socket " + two.socket:                            "draasd has 2 services, name the one at the URL by --service: shop, mail",
		"--socket " + two.socket + " --service shpo":        `draasd has no service "shpo", it has shop, mail`,
		"--socket x --api dr=h:1":                           "give one",
		"--api dr=h:1":                                      "--api needs certificates",
		"--api dr=h:1 --tls-ca a --tls-cert b":              "give all three",
		"--tls-ca a":                                        "go with --api",
		"--service shop":                                    "means nothing without",
		"-c /nonexistent.toml":                              "there is no /nonexistent.toml",
		"--api h:1 --tls-ca a --tls-cert b --tls-key c":     "write MEMBER=HOST:PORT",
		"--api dr=h:1 --tls-ca /x --tls-cert b --tls-key c": "tls.ca: open /x",
		"--runs 2 --inject true":                            "--restore",
		"--runs 0 --inject true":                            "not within 1",
		"--runs 1":                                          "--runs needs --inject",
		"--inject true":                                     "means nothing without --runs",
		"--runs 1 --inject true --fault-file /none":         "--fault-file means nothing",
		"--max-rpo 1s":                                      "means nothing without --write-url",
		"--users 0":                                         "must be more than zero",
	} {
		code, stdout, stderr := rtotest(append(strings.Fields(args), "--duration", "50ms", s.URL)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, %q, want %q", args, code, stderr, want)
		}
	}
	code, stdout, stderr := rtotest("--socket", filepath.Join(t.TempDir(), "none"), "--duration", "50ms", s.URL)
	if code != exitMet || !strings.Contains(stderr, "draasd does not answer, measuring goes on") || !strings.Contains(stdout, "problem        no member of the cluster has answered") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
}

// fakeAsker answers from memory.
type fakeAsker struct {
	history []failover.Record
	err     error
}

func (f *fakeAsker) Status(context.Context, bool) (*api.Status, error) { return nil, f.err }
func (f *fakeAsker) Watch(context.Context, func(*api.Status) error) error {
	return f.err
}
func (f *fakeAsker) History(context.Context, draas.ServiceID, int) ([]failover.Record, error) {
	return f.history, f.err
}
func (*fakeAsker) Close() {}

// TestHistoryOfMany: of what the members tell the longest counts, and that one
// is lost does not hide what another tells.
func TestHistoryOfMany(t *testing.T) {
	rec := func(n uint64) []failover.Record { return []failover.Record{{Index: 1}, {Index: n}} }
	d := &daemons{service: "shop", members: []*member{{asker: &fakeAsker{history: rec(5)}}, {asker: &fakeAsker{err: errors.New("refused")}}, {asker: &fakeAsker{history: rec(7)}}}}
	got, err := d.askHistory(t.Context(), rec(6))
	if err != nil || got[1].Index != 7 {
		t.Errorf("%v, %v", got, err)
	}
	d.members = d.members[1:2]
	if got, err := d.askHistory(t.Context(), rec(6)); err != nil || got[1].Index != 6 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := d.askHistory(t.Context(), nil); err == nil {
		t.Error("a history of nobody")
	}
}

// TestClock: of many answers the quickest tells the offset, to half of its
// round trip.
func TestClock(t *testing.T) {
	m := &member{address: "h:1"}
	if c := m.clock(); c.Known || c.Member != "h:1" {
		t.Errorf("%+v", c)
	}
	sent := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *api.Status { return &api.Status{Self: "dr", At: sent.Add(d)} }
	m.sample(sent, 80*time.Millisecond, at(500*time.Millisecond), nil)
	m.sample(sent, 10*time.Millisecond, at(305*time.Millisecond), nil)
	m.sample(sent, 40*time.Millisecond, at(900*time.Millisecond), nil)
	m.sample(sent, time.Millisecond, nil, errors.New("refused\x1b"))
	c := m.clock()
	if !c.Known || c.Member != "dr" || c.Offset != measure.Millis(300*time.Millisecond) || c.Error != measure.Millis(5*time.Millisecond) || c.Samples != 3 || c.Problem != "refused?" {
		t.Errorf("%+v", c)
	}
	clocks := []measure.MemberClock{c, {Member: "lost"}, {Member: "primary", Known: true, Offset: measure.Millis(-100 * time.Millisecond), Error: measure.Millis(time.Millisecond)}}
	for by, want := range map[draas.MemberID]struct {
		back, off time.Duration
	}{"dr": {300 * time.Millisecond, 5 * time.Millisecond}, "primary": {-100 * time.Millisecond, time.Millisecond}, "lost": {102 * time.Millisecond, 203 * time.Millisecond}} {
		if ours, off, ok := shift(clocks, by, sent); !ok || ours != sent.Add(-want.back) || off != want.off {
			t.Errorf("%s: %v +-%v, %v", by, sent.Sub(ours), off, ok)
		}
	}
	if ours, _, ok := shift(clocks[1:2], "lost", sent); ok || ours != sent {
		t.Error("shifted by a clock that nobody knows")
	}
}

// TestMoves: moves are read from what a daemon remembers: whole ones, one that
// was turned around, and one that is under way, as far as it is.
func TestMoves(t *testing.T) {
	at := func(n int) time.Time { return time.Date(2026, 11, 21, 12, 0, n, 0, time.UTC) }
	whole := &failover.Move{Kind: failover.MoveSwitchover, From: "primary", To: "dr", Epoch: 4, Operator: "ada\x1b[2J",
		Times: failover.Times{Decided: at(1), Released: at(2), Activated: at(3), Redirected: at(4), Verified: at(5)},
		Plan:  runbook.Plan{Steps: []runbook.Step{{Name: "dns"}}}, Journal: runbook.Journal{"dns": {Outcome: runbook.OutcomeDone, Attempts: 2, Evidence: "seen\a"}}}
	records := []failover.Record{
		{Kind: failover.RecordDecision, At: at(1), Epoch: 4, By: "primary"},
		{Kind: failover.RecordPhase, Phase: failover.PhaseRedirecting, At: at(3), Epoch: 4, By: "dr"},
		{Kind: failover.RecordFinding, At: at(4).Add(time.Millisecond), Epoch: 4, Member: "dr\x1b", By: "dr", Text: "expected loss (sync): the copy of primary's cloud was 4.2s behind, with at least 3 objects (40 MiB) missing"},
		{Kind: failover.RecordDone, At: at(5), Epoch: 4, Move: whole, By: "witness"},
		{Kind: failover.RecordPhase, Phase: failover.PhaseSuspect, At: at(20), By: "dr"},
		{Kind: failover.RecordDecision, At: at(21), Epoch: 5, Text: "failover of shop from dr to primary"},
		{Kind: failover.RecordDecision, At: at(25), Epoch: 5, Text: "undo of shop"},
		{Kind: failover.RecordPhase, Phase: failover.PhaseRedirecting, At: at(26), Epoch: 5, Text: "dr is active again"},
	}
	if !moving(records) || moving(records[:4]) || moving(nil) {
		t.Error("under way or not")
	}
	moves := movesOf(records, nil)
	if len(moves) != 2 {
		t.Fatalf("%+v", moves)
	}
	var got []string
	for _, turn := range moves[0].Turns {
		got = append(got, turn.Name+"/"+turn.Part+"/"+string(turn.By))
	}
	if want := "decided/confirm/primary released/release/ activated/activate/dr redirected/act/ verified//witness"; strings.Join(got, " ") != want {
		t.Errorf("%q", got)
	}
	if m := moves[0]; !m.Complete || m.Operator != "ada?[2J" || len(m.Steps) != 1 || m.Steps[0].Evidence != "seen?" || m.Steps[0].Attempts != 2 {
		t.Errorf("%+v", m)
	}
	want := measure.Loss{From: "primary", Known: true, Behind: measure.Millis(4200 * time.Millisecond), Objects: 3, Bytes: 40 << 20, By: "dr?",
		Text: "the copy of primary's cloud was 4.2s behind, with at least 3 objects (40 MiB) missing"}
	if l := moves[0].Loss; l == nil || *l != want {
		t.Errorf("%+v", l)
	}
	if untold(records[:4]) || !untold(records) || !untold(records[:2]) || untold(nil) {
		t.Error("told or not")
	}
	m := moves[1]
	if m.Loss != nil || m.Complete || m.Reason != "undo of shop" || len(m.Turns) != 3 || m.Turns[0].Name != "suspected" || !m.Turns[1].At.Equal(at(21)) || m.Turns[2].Part != "fence" {
		t.Errorf("%+v", m)
	}
}

// FuzzMoves: whatever a daemon remembers, what is told of it is fit for a
// terminal, and a complete move is one that a record tells of.
func FuzzMoves(f *testing.F) {
	f.Add([]byte(`[{"kind":"decision","epoch":4,"at":"2026-11-21T12:00:00Z"},{"kind":"done","move":{"kind":"failover","epoch":4,"times":{"decided":"2026-11-21T12:00:00Z"}}}]`))
	f.Add([]byte(`[{"kind":"done"},{"kind":"done","move":{"plan":{"steps":[{"name":"\u001b"}]},"operator":"\u001b[2J"}}]`))
	f.Add([]byte(`[{"kind":"phase","phase":"redirecting"},{"kind":"decision","text":"\u0000"},{"kind":"phase","phase":"verifying"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var records []failover.Record
		if json.Unmarshal(data, &records) != nil {
			return
		}
		done := 0
		for _, r := range records {
			if r.Kind == failover.RecordDone && r.Move != nil {
				done++
			}
		}
		complete := 0
		for _, m := range movesOf(records, []measure.MemberClock{{Member: "dr", Known: true}}) {
			if m.Complete {
				complete++
			}
			for _, s := range []string{m.Operator, m.Reason, m.Evidence, m.InWords()} {
				if i := strings.IndexFunc(s, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }); i >= 0 {
					t.Fatalf("%q goes to a terminal", s)
				}
			}
		}
		if complete != done {
			t.Fatalf("%d complete moves of %d that were told", complete, done)
		}
		if last := len(records) - 1; moving(records) && records[last].Kind == failover.RecordDone {
			t.Fatal("under way, and ended")
		}
	})
}
