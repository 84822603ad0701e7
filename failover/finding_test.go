package failover

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func changed(text string) Finding {
	return Finding{Service: "shop", Epoch: 1, Step: "dns", Code: FoundChanged, Text: text}
}

// A finding stands in the history in plain words, once for as long as the same
// is found; findings of one member stand there in their order.
func TestFindings(t *testing.T) {
	c := active(t, nil)
	a := c.agents["primary"]
	repaired, elsewhere := changed("epoch=1 site=primary"), changed("other")
	repaired.Code, elsewhere.Step = FoundRepaired, "dns@b"
	for _, f := range []Finding{changed("203.0.113.9"), changed("203.0.113.10"), repaired, elsewhere, changed("again")} {
		a.Find(f)
	}
	c.run(time.Second)
	var got []string
	for _, r := range c.history() {
		if r.Kind == RecordFinding {
			got = append(got, r.Text)
			if r.Service != "shop" || r.Member != "primary" || r.Epoch != 1 {
				t.Errorf("%+v", r)
			}
		}
	}
	want := []string{
		"users are not led as decided (dns): 203.0.113.9",
		"users were not led as decided: it was put right (dns): epoch=1 site=primary",
		"users are not led as decided (dns@b): other",
		"users are not led as decided (dns): again",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(a.findings) != 0 {
		t.Errorf("still to be told: %v", a.findings)
	}
	c.request("dr", "", Request{Ask: AskAcknowledge})
	c.run(100 * ms)
	a.Find(changed("after the acknowledgement"))
	c.run(100 * ms)
	if n := c.count(RecordFinding, "after the acknowledgement"); n != 1 {
		t.Error("an acknowledged finding is not told anew")
	}
}

// A lost proposal is made again; one of an epoch that is over, or of a unit that
// the rules do not have, is dropped; a later epoch's waits.
func TestFindingsSurviveALoss(t *testing.T) {
	c := active(t, nil)
	a := c.agents["primary"]
	old, ahead, other := changed("old"), changed("ahead"), changed("other")
	ahead.Epoch, other.Service = 2, "crm"
	a.Find(other)
	a.Find(changed("lost"))
	a.Find(ahead)
	var lost int
	for _, e := range a.Tick(c.reading()).Propose {
		if e.Kind == EventFinding {
			lost++
		}
	}
	a.Retry()
	c.run(time.Second)
	if n := c.count(RecordFinding, ""); lost != 1 || n != 1 || c.count(RecordFinding, "lost") != 1 {
		t.Fatalf("%d lost, %d told\n%s", lost, n, c.story())
	}
	old.Step = "dns@old"
	e := a.event(EventFinding, c.reading())
	sent := old
	sent.Text = "old, and on its way"
	e.Finding = &sent
	c.request("witness", "dr", Request{Move: MoveSwitchover})
	c.until(PhaseVerifying, time.Second)
	c.append(e) // it was on its way
	a.Find(old)
	c.run(time.Second)
	if c.count(RecordFinding, "old") != 0 {
		t.Errorf("a finding of an epoch that is over\n%s", c.story())
	}
	told := 0
	for _, e := range c.log {
		if e.Finding != nil && *e.Finding == old {
			told++
		}
	}
	if told != 0 {
		t.Errorf("a finding of an epoch that is over was proposed")
	}
	if c.count(RecordFinding, "ahead") != 1 {
		t.Errorf("a finding that came before the entry was lost\n%s", c.story())
	}
}

// What comes from outside is cut to what a history can hold, by the member that
// tells it and by all that read it.
func TestFindingsAreBounded(t *testing.T) {
	c := active(t, nil)
	a := c.agents["primary"]
	long := changed(strings.Repeat("ä", 300) + "\xff")
	a.Find(long)
	c.run(100 * ms)
	e := a.event(EventFinding, c.reading())
	long.Code = FoundRefused
	e.Finding = &long
	c.append(e)
	c.run(100 * ms)
	n := 0
	for _, r := range c.history() {
		if r.Kind != RecordFinding {
			continue
		}
		n++
		if _, text, _ := strings.Cut(r.Text, ": ä"); len(text)+2 > maxFindingText || !utf8.ValidString(r.Text) || !strings.HasSuffix(r.Text, "...") {
			t.Errorf("%d octets: %q", len(r.Text), r.Text)
		}
	}
	if n != 2 {
		t.Errorf("%d findings", n)
	}
	for range 3 * maxFindingQueue {
		a.Find(changed("x"))
	}
	if len(a.findings) > maxFindingQueue {
		t.Errorf("%d wait", len(a.findings))
	}
	for i := range 2 * maxFindingSteps {
		f := changed("x")
		f.Step = strings.Repeat("s", i+1)
		e := a.event(EventFinding, c.reading())
		e.Finding = &f
		c.append(e)
	}
	for _, f := range []Finding{{Service: "shop", Epoch: 1, Code: FoundChanged}, {Service: "shop", Epoch: 1, Step: "x"}, {Service: "none", Step: "x", Code: FoundChanged}} {
		e := a.event(EventFinding, c.reading())
		e.Finding = &f
		c.append(e)
	}
	e = a.event(EventFinding, c.reading())
	c.append(e)
	before := c.count(RecordFinding, "")
	c.run(100 * ms)
	if sv := c.service("shop"); len(sv.Findings) != maxFindingSteps {
		t.Errorf("%d steps are remembered, %d before", len(sv.Findings), before)
	}
	if c.count(RecordFinding, "(s)") != 1 {
		t.Error("no finding of another step is told")
	}
}
