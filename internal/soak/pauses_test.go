package soak

import (
	"strings"
	"testing"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// What nobody asked for and is decided in a pause is found out; nothing else is.
func TestPauses(t *testing.T) {
	const automatic, asked, undo = "failover of kern from dr to primary", "failover of kern from dr to primary by soak",
		"undo of kern from dr to dr by soak: primary did not take over"
	for _, tc := range []struct {
		name string
		of   draas.ServiceID
		kind failover.RecordKind
		text string
		bad  bool
	}{
		{"automatic", byKernel, failover.RecordDecision, automatic, true},
		{"turned around, whoever began it", byKernel, failover.RecordDecision, undo, true},
		{"asked for", byKernel, failover.RecordDecision, asked, false},
		{"of another service", byPath, failover.RecordDecision, automatic, false},
		{"complete", byKernel, failover.RecordDone, automatic + " is complete", false},
	} {
		p := make(pauses)
		decided := failover.Record{Kind: tc.kind, Service: tc.of, Text: tc.text}
		if wrong := p.record(decided); wrong != "" {
			t.Errorf("%s, before the pause: %s", tc.name, wrong)
		}
		p.record(failover.Record{Kind: failover.RecordPause, Service: byKernel, Text: "soak paused automatic moves"})
		if wrong := p.record(decided); (wrong != "") != tc.bad || tc.bad && !strings.Contains(wrong, "though soak paused") {
			t.Errorf("%s, in the pause: %q", tc.name, wrong)
		}
		p.record(failover.Record{Kind: failover.RecordResume, Service: byKernel})
		if wrong := p.record(decided); wrong != "" {
			t.Errorf("%s, after the pause: %s", tc.name, wrong)
		}
	}
}

// A refusal shows the pause if it came after it and has no other reason.
func TestOnlyPause(t *testing.T) {
	reason := func(code string, ok bool) failover.Reason { return failover.Reason{Code: code, OK: ok} }
	refusal := func(reasons ...failover.Reason) failover.Record {
		return failover.Record{Kind: failover.RecordRefusal, Service: byPath, Reasons: reasons}
	}
	paused := failover.Record{Kind: failover.RecordPause, Service: byPath}
	shown := refusal(reason(failover.ReasonQuorum, true), reason(failover.ReasonVantage, false), reason(failover.ReasonPause, false))
	other := refusal(reason(failover.ReasonHold, false), reason(failover.ReasonPause, false))
	reader := refusal(reason(failover.ReasonEpoch, false))
	for _, tc := range []struct {
		name    string
		records []failover.Record
		good    bool
	}{
		{"shown", []failover.Record{paused, shown}, true},
		{"readers come after it", []failover.Record{paused, shown, reader, reader}, true},
		{"of the pause before", []failover.Record{paused, shown, paused, reader}, false},
		{"held by something else as well", []failover.Record{paused, other}, false},
		{"nothing", nil, false},
	} {
		if err := onlyPause(tc.records); (err == nil) != tc.good {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
