package matrix

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/failover"
)

// options are those of a run of the test's own programs.
func options(t *testing.T) Options {
	t.Helper()
	needRoot(t)
	return Options{Draasd: build(t), Self: self(t), Ways: Ways{All: time.Millisecond}, Lag: 200 * time.Millisecond, Down: time.Second, Dir: t.TempDir(), Out: io.Discard}
}

// That the check can fail: without a fence an operator who vouches, wrongly,
// that a site that is cut off does not serve makes two sites serve, and who
// stands beside them sees it.
func TestTwoSitesAreSeen(t *testing.T) {
	t.Parallel()
	o := options(t)
	ctx := t.Context()
	w, err := newWorld(ctx, o, column{Name: "bare", Scheme: schemeDNS, Lease: 2 * time.Second, Bare: true}, filepath.Join(o.Dir, "bare"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	all := []cut{{From: primary}, {To: primary}}
	c := cell{Name: "forced", Expect: moves, Heal: func(w *world) error { return w.net.join(all...) },
		Strike: func(ctx context.Context, w *world) error {
			if err := w.net.sever(all...); err != nil {
				return err
			}
			return await(ctx, startLimit, func(ctx context.Context) error {
				return w.ask(ctx, dr, failover.Request{Move: failover.MoveFailover, Vouch: true})
			})
		}}
	r, err := w.once(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if r.DualMS < 300 || len(r.Faults) == 0 {
		t.Errorf("two sites served, and seen was %s", r)
	}
	if got := w.violations(); len(got) > 0 {
		t.Errorf("besides: %q", got)
	}
	restless(t, w)
}

// restless moves the service before anything is done: nothing is done then,
// and that it moved is found.
func restless(t *testing.T, w *world) {
	t.Helper()
	asked := make(chan error, 1)
	c := cell{Name: "restless", Expect: stays,
		Before: func(ctx context.Context, w *world) error {
			go func() {
				pause(ctx, warmFor/2)
				asked <- w.ask(ctx, dr, failover.Request{Move: failover.MoveSwitchover})
			}()
			return nil
		},
		Strike: func(context.Context, *world) error { t.Error("the disaster is made all the same"); return nil },
	}
	r, err := w.once(t.Context(), c)
	if err := errors.Join(err, <-asked); err != nil {
		t.Fatal(err)
	}
	if r.Void == "" || r.proves() || len(r.Faults) == 0 && r.Upset == "" {
		t.Errorf("the service moved by itself, and found was %s", r)
	}
	if at, _, err := w.reign(t.Context()); at != primary || err != nil {
		t.Errorf("afterwards it is at %q, %v", at, err)
	}
}

// A run that is interrupted leaves nothing, and what was made stays made. It is
// made alone: two worlds at once are more than a slow machine's users are
// served in.
func TestInterrupted(t *testing.T) {
	o := options(t)
	o.Columns, o.Cells, o.Runs = regexp.MustCompile("^dns$"), regexp.MustCompile("killed$"), 1000
	o.Results = filepath.Join(t.TempDir(), "results.jsonl")
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for ctx.Err() == nil {
			if had, err := readResults(o.Results); err == nil && len(had) > 0 {
				cancel()
			}
			pause(ctx, 20*time.Millisecond)
		}
	}()
	results, err := Run(ctx, o)
	cancel()
	<-watched
	if !errors.Is(err, context.Canceled) || len(results) == 0 {
		t.Errorf("%d results, %v", len(results), err)
	}
	for _, r := range results {
		if len(r.Faults) > 0 {
			t.Error(r)
		}
	}
	left, err := filepath.Glob(filepath.Join(o.Dir, "draas-matrix-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		// One that has ended meanwhile is empty.
		if text, _ := os.ReadFile(f); bytes.Contains(text, []byte(o.Dir)) {
			t.Errorf("%s is left: %q", f, text)
		}
	}
}

// What stands in the file is not made again; what is void or upset does not count.
func TestWanted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.jsonl")
	for _, r := range []Result{
		{Column: "dns", Cell: "service killed"}, {Column: "dns", Cell: "service killed", Void: "so"},
		{Column: "dns", Cell: "service killed", Upset: "so"},
		{Column: "hybrid", Cell: "service killed"}, {Column: "dns", Cell: "witness off"},
	} {
		if err := appendResult(file, r); err != nil {
			t.Fatal(err)
		}
	}
	had, err := readResults(file)
	if err != nil || len(had) != 5 {
		t.Fatal(had, err)
	}
	m := &matrix{Options: Options{Runs: 2, Others: 1, Down: time.Second}, results: had}
	most := 100
	named := func(name string) (runs map[string]int) {
		runs = make(map[string]int)
		for _, c := range columns() {
			if c.Name == name {
				for _, x := range m.wanted(c, most) {
					runs[x.Name] = x.runs
				}
			}
		}
		return runs
	}
	dns := named("dns")
	if dns["service killed"] != 1 || dns["primary site off"] != 2 || dns["witness off"] != 0 || dns["daemon killed"] != 1 || dns["frontend host off"] != 0 {
		t.Errorf("of dns %v are to be made", dns)
	}
	if most = 1; named("dns")["primary site off"] != 1 || named("dns")["service killed"] != 0 {
		t.Errorf("of dns %v are to be made in the first pass", named("dns"))
	}
	most = 100
	if got := named("hybrid"); len(got) != len(cells(0))-1 || got["frontend host off"] != 2 {
		t.Errorf("of hybrid %v are to be made", got)
	}
	if got := named("frontend+vip"); len(got) != len(cells(0)) {
		t.Errorf("of frontend+vip %v are to be made", got)
	}
	if got := named("hybrid, metro"); len(got) != len(headlines()) {
		t.Errorf("of the short lease %v are to be made", got)
	}
	if got := named("HAProxy"); len(got) != 4 {
		t.Errorf("of HAProxy %v are to be made", got)
	}
	if got := named("keepalived 1 s"); len(got) != 3 || got["frontend killed"] != 1 {
		t.Errorf("of keepalived %v are to be made", got)
	}
	m.Short, m.Others = true, 0
	if got := named("dns"); got["Keystone's database stopped in mid-sync"] != 2 || got["sync stopped, then primary site off"] != 0 || got["primary cut from everyone"] != 2 || got["daemon killed"] != 0 {
		t.Errorf("of dns %v are to be made in the short run", got)
	}
	if got := named("hybrid"); got["Keystone's database stopped in mid-sync"] != 0 || got["sync stopped, then primary site off"] != 2 {
		t.Errorf("of hybrid %v are to be made in the short run", got)
	}
	if err := os.WriteFile(file, []byte("{\"column\":\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readResults(file); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a file that is none is read: %v", err)
	}
}
