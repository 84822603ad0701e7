package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/metrics"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

const docs = "../../docs/"

// apiExamples are the bodies in docs/api.md, the longest lists cut short.
func apiExamples() map[string]any {
	status := lostStatus()
	status.Services[0].Last = nil
	status.Services[0].Move.Reasons = clauses()[:1]
	status.Services[0].Move.Plan = dnsPlan(runbook.Failover, "primary", "dr", 4)
	status.Warnings = []string{"shop: fence at dr: not confirmed closed"}
	status.Reported[0].Fences[0].Error = "not confirmed closed"
	status.Reported[0].Users = []api.UserPath{{Service: "mail", Step: "dns", AsDecided: "no", Since: noon, Repairs: 3,
		Evidence: "primary 192.0.2.53:53: epoch=2 site=dr A 203.0.113.99"}}
	status.Reported[2].Frontends = []api.FrontendSeen{{Frontend: "edge1", HeardMS: 210,
		Services: []api.FollowReport{{Service: "shop", Epoch: 3, Site: "primary", State: "wait", Reason: "moving", Held: 12}}}}
	status.Reported[2].VIPs = []api.VIPSeen{{VIP: "web", Addresses: []string{"192.0.2.80"}, Granted: "edge1", Holders: []api.VIPHolder{
		{Frontend: "edge1", HeardMS: 40, Has: true}, {Frontend: "edge2", HeardMS: 730, Trouble: "interface eth0 has no carrier"}}}}
	why := whyShop()
	why.Now = why.Now[:4]
	why.Decisions = why.Decisions[:1]
	why.Decisions[0].Reasons = why.Decisions[0].Reasons[:1]
	history := records()[:2]
	history[1].Text = "failover of shop from dr to primary is complete"
	history[1].Move = &failover.Move{Kind: failover.MoveFailover, From: "dr", To: "primary", Epoch: 3, Reasons: clauses()[:1],
		Evidence: "dr released epoch 2",
		Plan:     dnsPlan(runbook.Failover, "dr", "primary", 3), Journal: lastMove().Journal,
		Times: failover.Times{Suspected: after(-62500), Failed: after(-62460), Decided: after(-62459), Released: after(-60500), Activated: after(-60400),
			Redirected: after(-60390), Verified: after(-60000)}}
	return map[string]any{
		"error":       api.Error{Error: `not found: there is no service "shpo" in the policy in force`},
		"status":      status,
		"why":         why,
		"history":     history,
		"sync":        syncShop(),
		"synctrigger": api.SyncTrigger{Audit: true},
		"syncing":     api.Done{Text: "a run begins, or follows the one under way"},
		"request": api.Request{Service: "shop", Site: "dr", Request: failover.Request{
			Move: failover.MoveSwitchover, Operator: "ada", Reason: "kernel update at primary", Expect: 3}},
		"accepted": accepted(failover.MoveSwitchover),
		"refused":  refusal(),
		"follow": api.Follow{Frontend: "edge1", Tag: "1d2a8f3c40.4b3", WaitMS: 400,
			Services: []api.FollowReport{{Service: "shop", Epoch: 3, Site: "primary", State: "open", Flights: 7}},
			Evidence: []api.FollowEvidence{{Service: "shop", Site: "primary", Epoch: 3, Class: "refused"}}},
		"led": api.Led{Member: "witness", Tag: "1d2a8f3c40.4b4", WaitedNS: 31_000_000, Policy: "7166f554c95b0e11aa22bb33",
			Services: []api.LedService{{Service: "shop", Epoch: 3, Active: "primary", Moving: true, PermitNS: 2_100_000_000}}},
		"left":  api.Done{Text: "dr leaves the cluster: its daemon ends when the others have let it go"},
		"force": api.Force{OldSiteIsOff: true, Operator: "ada", Reason: "flood at primary"},
		"page": api.Page{Event: api.PageAlarm, Key: "stuck:shop", Cluster: "acme", Member: "witness", Service: "shop", At: noon, Since: noon, Count: 1,
			Text:    "shop has failed at primary and does not move by itself: the copy at dr is 3m20s behind, 1m0s is allowed: wait, or run draasd failover shop --allow-data-loss",
			Reasons: []failover.Reason{{Code: failover.ReasonLoss, Text: "the copy at dr is 3m20s behind, 1m0s is allowed: wait, or run draasd failover shop --allow-data-loss"}},
			Command: "draasd failover shop --allow-data-loss"},
		"reload": *offered(),
		"refusedfile": api.Reload{File: "/etc/draas/failover.toml", At: noon, Digest: "7166f554c95b0e11aa22bb33",
			Refused: []string{`/etc/draas/failover.toml:12: service.shop.home: there is no site "primry", want dr or primary`}},
	}
}

var exampleBlock = regexp.MustCompile("(?s)<!-- example: ([a-z]+) -->\n```json\n(.*?)```\n")

// The examples in docs/api.md are what the types encode to.
func TestAPIExamples(t *testing.T) {
	path := docs + "api.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	examples := apiExamples()
	got := exampleBlock.ReplaceAllFunc(text, func(block []byte) []byte {
		name := string(exampleBlock.FindSubmatch(block)[1])
		v, known := examples[name]
		if !known {
			t.Errorf("%s: there is no example %q, or it is shown twice", path, name)
			return block
		}
		delete(examples, name)
		var b bytes.Buffer
		fmt.Fprintf(&b, "<!-- example: %s -->\n```json\n", name)
		if err := writeJSON(&b, v, "  "); err != nil {
			t.Fatal(err)
		}
		b.WriteString("```\n")
		return b.Bytes()
	})
	for name := range examples {
		t.Errorf("%s does not show the example %q", path, name)
	}
	compare(t, path, got)
}

// Every field that crosses the API, and every path, stands in docs/api.md.
func TestAPIDescribed(t *testing.T) {
	text, err := os.ReadFile(docs + "api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{api.PathStatus, api.PathWatch, api.PathWhy, api.PathHistory, api.PathRequest, api.PathReload, api.PathLeave, api.PathForce, api.PathSync, metrics.Path} {
		if !regexp.MustCompile(`(?m)^## (GET|POST) ` + path + `(\?|$)`).Match(text) {
			t.Errorf("docs/api.md has no section on %s", path)
		}
	}
	fields := make(map[string]bool)
	for _, v := range []any{api.Status{}, api.Why{}, api.Request{}, api.Answer{}, api.Reload{}, api.Force{}, api.Done{}, api.Page{}, api.Error{}, api.Sync{}, api.SyncTrigger{}} {
		jsonFields(reflect.TypeOf(v), fields)
	}
	for _, name := range sortedKeys(fields) {
		if !bytes.Contains(text, []byte(`"`+name+`"`)) && !bytes.Contains(text, []byte("`"+name+"`")) {
			t.Errorf("docs/api.md does not mention the field %q", name)
		}
	}
}

// jsonFields gathers the names of all fields of a type, and of those below it.
func jsonFields(t reflect.Type, into map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		jsonFields(t.Elem(), into)
	case reflect.Struct:
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "" {
				into[name] = true
			}
			if f.IsExported() && t.PkgPath() != "time" {
				jsonFields(f.Type, into)
			}
		}
	}
}

var (
	shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")
	invocation = regexp.MustCompile(`^(?:sudo (?:-u \S+ )?)?(?:\S*/)?draasd ([^|;&>#]*)`)
)

// Every draasd command that the documents tell people to type is one that
// there is, with flags and arguments that it takes.
func TestDocumentedCommands(t *testing.T) {
	p := &program{stdout: io.Discard, stderr: io.Discard}
	files, err := filepath.Glob(docs + "*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("find documents: %v", err)
	}
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range shellBlock.FindAllSubmatch(text, -1) {
			script := strings.ReplaceAll(string(block[1]), "\\\n", " ")
			for line := range strings.Lines(script) {
				if m := invocation.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
					checkInvocation(t, p, filepath.Base(file), m[1])
				}
			}
		}
	}
	for _, c := range p.commands() {
		checkInvocation(t, p, "help "+c.name, strings.TrimPrefix(c.example, "draasd "))
	}
}

func checkInvocation(t *testing.T, p *program, where, line string) {
	t.Helper()
	args := words(line)
	c := find(p.commands(), args[0])
	if c == nil {
		if args[0] != "help" {
			t.Errorf("%s: there is no command draasd %s", where, args[0])
		}
		return
	}
	if c.bind == nil {
		return
	}
	f := flag.NewFlagSet(c.name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	c.bind(p, f)
	args, err := parse(f, args[1:])
	if err != nil || len(args) < c.min || len(args) > c.max {
		t.Errorf("%s: draasd %s: arguments %q, want %s (%v)", where, line, args, c.line(), err)
	}
}

// words splits a command line, with single quotes.
func words(line string) []string {
	var out []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}

// Nothing of an example is lost on the way through its type.
func TestExamplesAreRead(t *testing.T) {
	for name, v := range apiExamples() {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		back := reflect.New(reflect.TypeOf(v))
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields()
		if err := dec.Decode(back.Interface()); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := back.Elem().Interface(); !reflect.DeepEqual(got, v) {
			t.Errorf("%s: read %+v, want %+v", name, got, v)
		}
	}
}
