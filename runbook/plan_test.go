package runbook

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
)

// samplePlan is a failover in diamond form: redirect and announce both wait
// for open, verify waits for both.
func samplePlan() Plan {
	step := func(name string, after ...string) Step {
		return Step{Name: name, Effect: "e-" + name, Member: "dr", After: after, Timeout: time.Second}
	}
	return Plan{
		Service: "shop", Move: Token{Epoch: 7}, Kind: Failover, From: "primary", To: "dr",
		Steps: []Step{
			step("verify", "redirect", "announce"),
			step("open"),
			step("redirect", "open"),
			step("announce", "open"),
		},
	}
}

func TestPlanJSON(t *testing.T) {
	p := samplePlan()
	p.Steps[0].Args = map[string]string{"path": "/healthz"}
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p, back) {
		t.Errorf("plan changed on its way through JSON:\n%+v\n%+v", p, back)
	}
	for _, bad := range []string{
		`{"service":"shop","stepz":[]}`,
		string(data) + "{}",
		`{}`,
		`[]`,
		strings.Repeat(" ", maxPlanBytes+1),
	} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("Parse accepted %.60q", bad)
		}
	}
}

func TestPlanValidate(t *testing.T) {
	if err := samplePlan().Validate(); err != nil {
		t.Fatalf("sample plan: %v", err)
	}
	tests := []struct {
		name   string
		change func(*Plan)
		want   string
	}{
		{"no service", func(p *Plan) { p.Service = "" }, "service: no name"},
		{"no epoch", func(p *Plan) { p.Move.Epoch = 0 }, "epoch 0 names no activation"},
		{"no target", func(p *Plan) { p.To = "" }, "to: no name"},
		{"to itself", func(p *Plan) { p.From = "dr" }, `from: "dr", want a site other than "dr"`},
		{"from nowhere", func(p *Plan) { p.From = "" }, `from: ""`},
		{"activation from a site", func(p *Plan) { p.Kind = Activate }, "comes from nowhere"},
		{"kind", func(p *Plan) { p.Kind = "drill" }, `kind: "drill" is not known`},
		{"bad from", func(p *Plan) { p.From = "a b" }, "not printable"},
		{"twice", func(p *Plan) { p.Steps[1].Name = "redirect" }, `step "redirect": named twice`},
		{"quote in name", func(p *Plan) { p.Steps[1].Name = `o"pen` }, "not printable"},
		{"long name", func(p *Plan) { p.Steps[1].Effect = strings.Repeat("x", 65) }, "65 bytes"},
		{"no member", func(p *Plan) { p.Steps[1].Member = "" }, "member: no name"},
		{"no timeout", func(p *Plan) { p.Steps[1].Timeout = 0 }, "timeout 0s"},
		{"long timeout", func(p *Plan) { p.Steps[1].Timeout = 2 * time.Hour }, "timeout 2h"},
		{"dangling", func(p *Plan) { p.Steps[1].After = []string{"nobody"} }, `after "nobody": no such step`},
		{"dep twice", func(p *Plan) { p.Steps[2].After = []string{"open", "open"} }, `after "open": named twice`},
		{"cycle", func(p *Plan) { p.Steps[1].After = []string{"verify"} }, "wait for each other"},
		{"itself", func(p *Plan) { p.Steps[1].After = []string{"open"} }, "wait for each other"},
		{"args", func(p *Plan) { p.Steps[1].Args = map[string]string{"a": strings.Repeat("x", MaxArgs)} }, "args of"},
		{"many deps", func(p *Plan) { p.Steps[1].After = make([]string, MaxAfter+1) }, "after 17 steps"},
		{"many steps", func(p *Plan) { p.Steps = make([]Step, MaxSteps+1) }, "65 steps"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := samplePlan()
			tt.change(&p)
			if err := p.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Validate: %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestPlanValidateReportsAll(t *testing.T) {
	p := samplePlan()
	p.Service, p.To, p.Steps[0].Timeout = "", "", 0
	err := p.Validate()
	for _, want := range []string{"service:", "to:", "timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate: %v, want it to mention %q", err, want)
		}
	}
}

func TestUndoMayStayInPlace(t *testing.T) {
	p := samplePlan()
	p.Kind, p.From = Undo, p.To
	if err := p.Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
}

func TestWorst(t *testing.T) {
	p := samplePlan()
	p.Steps[3].Timeout = 5 * time.Second // announce
	if got, want := p.Worst(), 7*time.Second; got != want {
		t.Errorf("Worst = %v, want %v: open, announce, verify", got, want)
	}
	if got := (Plan{}).Worst(); got != 0 {
		t.Errorf("Worst of no steps = %v", got)
	}
}

func TestTokenCompare(t *testing.T) {
	order := []Token{{Epoch: 1}, {Epoch: 1, Turn: 1}, {Epoch: 1, Turn: 9}, {Epoch: 9}, {Epoch: draas.EpochOf(1, 1)},
		{Epoch: draas.EpochOf(1, 2)}, {Epoch: draas.EpochOf(2, 0)}, {Epoch: draas.EpochOf(2, 0), Turn: 1}}
	for i, a := range order {
		for k, b := range order {
			if got := a.Compare(b); (got < 0) != (i < k) || (got > 0) != (i > k) {
				t.Errorf("%v.Compare(%v) = %d", a, b, got)
			}
		}
	}
	for token, want := range map[Token]string{{Epoch: 7}: "epoch 7", {Epoch: draas.EpochOf(2, 7)}: "epoch 2.7", {Epoch: 7, Turn: 2}: "epoch 7 turn 2"} {
		if got := fmt.Sprint(token); got != want {
			t.Errorf("%#v prints as %q, want %q", token, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	data, err := json.Marshal(samplePlan())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"service":"a","move":{"epoch":1},"kind":"activate","to":"b","steps":[{"name":"x","after":["x"]}]}`))
	f.Add([]byte(`{"steps":[{"timeout_ns":-1}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			return
		}
		if pr := Next(p, nil); len(p.Steps) > 0 && len(pr.Due) == 0 {
			t.Fatalf("a valid plan has nothing to start with: %+v", p)
		}
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatalf("write back: %v", err)
		}
		back, err := Parse(out)
		if err != nil {
			t.Fatalf("read back: %v", err)
		}
		again, err := json.Marshal(back)
		if err != nil || string(again) != string(out) {
			t.Fatalf("not stable (%v):\n%s\n%s", err, out, again)
		}
		// A chain of a plan's own steps can never last longer than all.
		var sum time.Duration
		for _, s := range p.Steps {
			sum += s.Timeout
		}
		if w := p.Worst(); w > sum || w < 0 {
			t.Fatalf("Worst = %v of %v in all", w, sum)
		}
	})
}
