package runbook

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
)

func record(step string, o Outcome) Record {
	return Record{Service: "shop", Move: Token{Epoch: 7}, Step: step, Member: "dr", Outcome: o, Evidence: "seen"}
}

func journal(t *testing.T, p Plan, records ...Record) Journal {
	t.Helper()
	var j Journal
	for _, r := range records {
		var err error
		if j, err = j.Add(p, r); err != nil {
			t.Fatal(err)
		}
	}
	return j
}

func dueNames(due []Due) string {
	var names []string
	for _, d := range due {
		names = append(names, fmt.Sprintf("%s#%d", d.Step.Name, d.Attempt))
	}
	return strings.Join(names, " ")
}

func TestNext(t *testing.T) {
	p := samplePlan()
	tests := []struct {
		name    string
		records []Record
		status  Status
		due     string
	}{
		{"start", nil, Running, "open#1"},
		{"failed is due again", []Record{record("open", OutcomeFailed)}, Running, "open#2"},
		{"unknown is due again", []Record{record("open", OutcomeUnknown), record("open", OutcomeUnknown)}, Running, "open#3"},
		{"both arms", []Record{record("open", OutcomeDone)}, Running, "redirect#1 announce#1"},
		{"one arm", []Record{record("open", OutcomeDone), record("announce", OutcomeDone)}, Running, "redirect#1"},
		{"join", []Record{record("open", OutcomeDone), record("announce", OutcomeDone), record("redirect", OutcomeDone)}, Running, "verify#1"},
		{"end", []Record{record("open", OutcomeDone), record("announce", OutcomeDone), record("redirect", OutcomeDone), record("verify", OutcomeDone)}, Finished, ""},
		{"refused ends it", []Record{record("open", OutcomeDone), record("announce", OutcomeRefused)}, Over, ""},
		{"released ends it", []Record{record("open", OutcomeReleased)}, Over, ""},
		{"a late failure does not undo", []Record{record("open", OutcomeDone), record("open", OutcomeFailed)}, Running, "redirect#1 announce#1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pr := Next(p, journal(t, p, tt.records...))
			if pr.Status != tt.status || dueNames(pr.Due) != tt.due {
				t.Errorf("Next = %s %q, want %s %q", pr.Status, dueNames(pr.Due), tt.status, tt.due)
			}
			if (pr.Status == Over) != (pr.Why != "") {
				t.Errorf("status %s with reason %q", pr.Status, pr.Why)
			}
		})
	}
}

func TestNextCarriesTheOp(t *testing.T) {
	p := samplePlan()
	p.Steps[1].Args = map[string]string{"a": "b"}
	got := Next(p, nil).Due[0].Op
	want := Op{Service: "shop", Token: Token{Epoch: 7}, Kind: Failover, From: "primary", To: "dr",
		Step: "open", Member: "dr", Args: map[string]string{"a": "b"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("op = %+v, want %+v", got, want)
	}
}

func TestReleases(t *testing.T) {
	p := samplePlan()
	open, redirect := record("open", OutcomeDone), record("redirect", OutcomeUnknown)
	gone := func(step string) Record { return record(step, OutcomeReleased) }
	tests := []struct {
		name    string
		records []Record
		want    string
	}{
		// open may have been started without a record.
		{"nothing recorded", nil, "open#1"},
		{"open failed", []Record{record("open", OutcomeFailed)}, "open#2"},
		{"all that was started, last first", []Record{open, redirect}, "redirect#2 announce#1"},
		{"then what they stood on", []Record{open, redirect, gone("redirect"), gone("announce")}, "open#2"},
		{"one arm left", []Record{open, redirect, gone("redirect")}, "announce#1"},
		{"over", []Record{open, redirect, gone("redirect"), gone("announce"), gone("open")}, ""},
		{"never started stays so", []Record{record("open", OutcomeFailed), gone("open")}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := dueNames(Releases(p, journal(t, p, tt.records...))); got != tt.want {
				t.Errorf("Releases = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestJournalRefusesForeignRecords(t *testing.T) {
	p := samplePlan()
	for name, change := range map[string]func(*Record){
		"service": func(r *Record) { r.Service = "mail" },
		"epoch":   func(r *Record) { r.Move.Epoch = 6 },
		"step":    func(r *Record) { r.Step = "dance" },
		"member":  func(r *Record) { r.Member = "primary" },
		"outcome": func(r *Record) { r.Outcome = "splendid" },
	} {
		r := record("open", OutcomeDone)
		change(&r)
		j, err := Journal(nil).Add(p, r)
		if err == nil || len(j) != 0 {
			t.Errorf("record of another %s was taken: %v, %v", name, j, err)
		}
	}
}

func TestJournalAddIsPure(t *testing.T) {
	p := samplePlan()
	j := journal(t, p, record("open", OutcomeFailed))
	if _, err := j.Add(p, record("open", OutcomeDone)); err != nil {
		t.Fatal(err)
	}
	if j["open"].Outcome != OutcomeFailed {
		t.Error("Add changed its receiver")
	}
	long := record("open", OutcomeUnknown)
	long.Evidence = strings.Repeat("é", MaxEvidence)
	if j, _ = j.Add(p, long); len(j["open"].Evidence) > MaxEvidence {
		t.Errorf("evidence of %d bytes kept", len(j["open"].Evidence))
	}
}

// A plan is driven to its end over random graphs with random outcomes: no
// step is due before what it waits for, and any crash (the journal is all
// that is kept) does not change what follows.
func TestNextDrivesRandomPlansToTheEnd(t *testing.T) {
	const seed = 42
	rng := rand.New(rand.NewPCG(seed, seed))
	for round := range 200 {
		p := randomPlan(rng)
		if err := p.Validate(); err != nil {
			t.Fatalf("seed %d round %d: %v", seed, round, err)
		}
		var j Journal
		done := map[string]bool{}
		for turn := 0; ; turn++ {
			if turn > 40*len(p.Steps)+40 {
				t.Fatalf("seed %d round %d: no end", seed, round)
			}
			pr := Next(p, j)
			if pr.Status == Finished {
				break
			}
			if len(pr.Due) == 0 {
				t.Fatalf("seed %d round %d: %s with nothing due", seed, round, pr.Status)
			}
			d := pr.Due[rng.IntN(len(pr.Due))]
			if !all(d.Step.After, done) {
				t.Fatalf("seed %d round %d: %s due too early", seed, round, d.Step.Name)
			}
			o := []Outcome{OutcomeDone, OutcomeFailed, OutcomeUnknown}[rng.IntN(3)]
			done[d.Step.Name] = o == OutcomeDone
			var err error
			j, err = j.Add(p, Record{Service: p.Service, Move: p.Move, Step: d.Step.Name, Member: d.Step.Member, Outcome: o})
			if err != nil {
				t.Fatal(err)
			}
		}
		if len(done) != len(p.Steps) {
			t.Fatalf("seed %d round %d: finished after %d of %d steps", seed, round, len(done), len(p.Steps))
		}
	}
}

func randomPlan(rng *rand.Rand) Plan {
	p := Plan{Service: "s", Move: Token{Epoch: 1}, Kind: Activate, To: "a"}
	n := 1 + rng.IntN(10)
	for i := range n {
		s := Step{Name: fmt.Sprint("s", i), Effect: "e", Member: draas.MemberID(fmt.Sprint("m", rng.IntN(3))), Timeout: time.Second}
		for k := range i {
			if rng.IntN(4) == 0 {
				s.After = append(s.After, fmt.Sprint("s", k))
			}
		}
		p.Steps = append(p.Steps, s)
	}
	rng.Shuffle(n, func(i, k int) { p.Steps[i], p.Steps[k] = p.Steps[k], p.Steps[i] })
	return p
}
