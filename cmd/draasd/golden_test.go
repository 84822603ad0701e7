package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

var update = flag.Bool("update", false, "write the golden files and the examples of docs/api.md anew")

// golden compares with testdata/NAME.golden, and holds every line to the
// width that everything has to fit in.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	for i, line := range strings.Split(string(got), "\n") {
		if n := utf8.RuneCountInString(line); n > columns && !strings.HasPrefix(name, "history") {
			t.Errorf("%s: line %d has %d columns: %s", name, i+1, n, line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("%s: line %d ends in blanks: %q", name, i+1, line)
		}
	}
	compare(t, filepath.Join("testdata", name+".golden"), got)
}

func compare(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatalf("write golden file: %v", err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("read golden file (go test -update writes it): %v", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -update writes it anew)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestRenderings(t *testing.T) {
	long := lostStatus()
	long.Cluster = "acme-with-a-rather-long-name-of-sixty-letters-that-somebody-chose"
	long.Members[0].ID, long.Services[0].ID = "a-member-with-quite-a-long-name", "a-service-with-a-long-name-too"
	long.Warnings = []string{strings.Repeat("a-word-without-end", 12), "an escape \x1b[31m and a\nline break stay harmless"}
	fresh := api.ServiceStatus{ID: "shop", Phase: failover.PhaseInactive}
	tests := map[string]func(io.Writer){
		"status-healthy":   func(w io.Writer) { writeStatus(w, healthyStatus()) },
		"status-lost":      func(w io.Writer) { writeStatus(w, lostStatus()) },
		"status-broken":    func(w io.Writer) { writeStatus(w, brokenStatus()) },
		"status-long":      func(w io.Writer) { writeStatus(w, long) },
		"status-hybrid":    func(w io.Writer) { writeStatus(w, hybridStatus()) },
		"status-group":     func(w io.Writer) { writeStatus(w, groupStatus()) },
		"members":          func(w io.Writer) { writeMembership(w, healthyStatus()) },
		"members-changing": func(w io.Writer) { writeMembership(w, changingStatus()) },
		"status-alone":     func(w io.Writer) { writeStatus(w, aloneStatus()) },
		"cost":             func(w io.Writer) { writeCost(w, healthyStatus().Services[0], api.Request{}) },
		"cost-lost":        func(w io.Writer) { writeCost(w, lostStatus().Services[0], api.Request{Site: "dr"}) },
		"cost-inactive":    func(w io.Writer) { writeCost(w, fresh, api.Request{Site: "dr"}) },
		"why":              func(w io.Writer) { writeWhy(w, whyShop()) },
		"why-would": func(w io.Writer) {
			writeWhy(w, &api.Why{Service: "shop", Phase: "normal", Active: "dr", Epoch: 1, Now: clauses()})
		},
		"history": func(w io.Writer) { writeHistory(w, records()) },
	}
	for name, write := range tests {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			write(&b)
			golden(t, name, b.Bytes())
		})
	}
}

// aloneStatus is a member that has lost the others.
func aloneStatus() *api.Status {
	s := healthyStatus()
	s.Leader = ""
	s.Warnings = []string{"no leader: this member cannot reach a majority; nothing is decided and permits run out"}
	s.Reported = []api.Reported{{Member: "primary", Error: "its guard does not answer: dial guard: connection refused", Applied: 9}}
	return s
}

// A mark stands wherever decided and reported disagree, and only there.
func TestJudge(t *testing.T) {
	sv := api.ServiceStatus{Active: "primary", Epoch: 3, Phase: failover.PhaseNormal, Fence: draas.FencePath}
	moving := sv
	moving.Phase = failover.PhaseFencing
	for _, tt := range []struct {
		name string
		sv   api.ServiceStatus
		site draas.SiteID
		f    api.FenceStatus
		want string
	}{
		{"active and open", sv, "primary", api.FenceStatus{State: "open", Epoch: 3}, markNone},
		{"standby and closed", sv, "dr", api.FenceStatus{State: "closed", Epoch: 2}, markNone},
		{"active but closed", sv, "primary", api.FenceStatus{State: "closed", Epoch: 3}, markDisagree},
		{"closed while it moves", moving, "primary", api.FenceStatus{State: "closed", Epoch: 3}, markNone},
		{"open under an old epoch", sv, "primary", api.FenceStatus{State: "open", Epoch: 2}, markDisagree},
		{"standby but open", sv, "dr", api.FenceStatus{State: "open", Epoch: 3}, markDisagree},
		{"closed with an error", sv, "dr", api.FenceStatus{State: "closed", Error: "listener lost"}, markDisagree},
		{"unknown", sv, "dr", api.FenceStatus{State: "unknown"}, markUnknown},
		{"a state of a later version", sv, "dr", api.FenceStatus{State: "ajar"}, markUnknown},
	} {
		if got := judge(tt.sv, tt.site, tt.f); got != tt.want {
			t.Errorf("%s: mark %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestHelp(t *testing.T) {
	var all bytes.Buffer
	p := &program{stdout: &all, stderr: io.Discard}
	if code := p.run(t.Context(), []string{"help"}); code != exitOK {
		t.Errorf("help exits with %d", code)
	}
	for _, c := range p.commands() {
		if c.hidden {
			continue
		}
		all.WriteString("\n")
		if code := p.run(t.Context(), []string{"help", c.name}); code != exitOK {
			t.Errorf("help %s exits with %d", c.name, code)
		}
	}
	golden(t, "help", all.Bytes())
}
