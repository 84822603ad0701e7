package runbook_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/runbook/effecttest"
)

// script is an effect that answers from a list.
type script struct {
	answers []runbook.Answer
	lookErr error
	doErr   error
	dos     int
}

func (s *script) Done(context.Context, runbook.Op) (runbook.Answer, string, error) {
	a := s.answers[0]
	s.answers = s.answers[1:]
	if a == runbook.Unknown {
		return a, "", s.lookErr
	}
	return a, "looked", nil
}
func (s *script) Do(context.Context, runbook.Op) error      { s.dos++; return s.doErr }
func (s *script) Release(context.Context, runbook.Op) error { return s.doErr }
func (s *script) Promise() runbook.Promise                  { return runbook.Promise{} }

func TestRunStep(t *testing.T) {
	const u, no, yes = runbook.Unknown, runbook.No, runbook.Yes
	boom := errors.New("boom")
	stale := fmt.Errorf("receiver: %w", draas.ErrStaleEpoch)
	tests := []struct {
		name    string
		effect  script
		want    runbook.Outcome
		dos     int
		wantErr error
	}{
		{"already done", script{answers: []runbook.Answer{yes}}, runbook.OutcomeDone, 0, nil},
		{"done now", script{answers: []runbook.Answer{no, yes}}, runbook.OutcomeDone, 1, nil},
		{"blind before", script{answers: []runbook.Answer{u, yes}, lookErr: boom}, runbook.OutcomeDone, 1, nil},
		{"blind after a success", script{answers: []runbook.Answer{no, u}, lookErr: boom}, runbook.OutcomeUnknown, 1, boom},
		{"accepted, not in force", script{answers: []runbook.Answer{no, no}}, runbook.OutcomeFailed, 1, nil},
		{"failed", script{answers: []runbook.Answer{no, no}, doErr: boom}, runbook.OutcomeFailed, 1, boom},
		{"failed, and applied", script{answers: []runbook.Answer{no, yes}, doErr: boom}, runbook.OutcomeDone, 1, boom},
		{"failed, and blind", script{answers: []runbook.Answer{no, u}, doErr: boom}, runbook.OutcomeUnknown, 1, boom},
		{"stale", script{answers: []runbook.Answer{no}, doErr: stale}, runbook.OutcomeRefused, 1, draas.ErrStaleEpoch},
		{"released", script{answers: []runbook.Answer{u}, doErr: runbook.ErrReleased}, runbook.OutcomeRefused, 1, runbook.ErrReleased},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.effect
			res := runbook.RunStep(t.Context(), &e, effecttest.SampleOp(1, 0))
			if res.Outcome != tt.want || e.dos != tt.dos {
				t.Errorf("RunStep = %s after %d Do, want %s after %d", res.Outcome, e.dos, tt.want, tt.dos)
			}
			if tt.wantErr != nil && !errors.Is(res.Err, tt.wantErr) {
				t.Errorf("RunStep error = %v, want %v", res.Err, tt.wantErr)
			}
			if tt.want != runbook.OutcomeDone && res.Err == nil {
				t.Errorf("%s without an error", res.Outcome)
			}
		})
	}
}

func TestReleaseStep(t *testing.T) {
	op := effecttest.SampleOp(1, 0)
	if res := runbook.ReleaseStep(t.Context(), &script{}, op); res.Outcome != runbook.OutcomeReleased || res.Err != nil {
		t.Errorf("ReleaseStep = %+v", res)
	}
	boom := errors.New("boom")
	if res := runbook.ReleaseStep(t.Context(), &script{doErr: boom}, op); res.Outcome != runbook.OutcomeUnknown || !errors.Is(res.Err, boom) {
		t.Errorf("ReleaseStep = %+v", res)
	}
}

func TestAnswerString(t *testing.T) {
	got := fmt.Sprint(runbook.Unknown, runbook.No, runbook.Yes, runbook.Answer(9))
	if got != "unknown no yes answer(9)" {
		t.Error(got)
	}
}

// A plan survives crashes at any point. Executors run steps against receivers
// that lose requests and answers and apply late; a crash loses the record of
// the step that ran, and the executor's memory. The plan still ends, and each
// receiver was written once.
func TestPlanSurvivesCrashes(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		receivers := map[string]*effecttest.Receiver{}
		plan := runbook.Plan{Service: "shop", Move: runbook.Token{Epoch: 7}, Kind: runbook.Failover, From: "primary", To: "dr"}
		for i := range 5 {
			s := runbook.Step{Name: fmt.Sprint("s", i), Effect: "fake", Member: "dr", Timeout: time.Second}
			if i > 0 {
				s.After = []string{fmt.Sprint("s", rng.IntN(i))}
			}
			plan.Steps = append(plan.Steps, s)
			receivers[s.Name] = effecttest.NewReceiver()
		}
		if err := plan.Validate(); err != nil {
			t.Fatal(err)
		}
		var journal runbook.Journal
		faults := []effecttest.Fault{"", effecttest.LoseRequest, effecttest.LoseAnswer, effecttest.ApplyLate, effecttest.Refuse, effecttest.Blind}
		crashes := 0
		for turn := 0; ; turn++ {
			pr := runbook.Next(plan, journal)
			if pr.Status == runbook.Finished {
				break
			}
			if turn > 1000 || pr.Status != runbook.Running {
				t.Fatalf("seed %d: %s after %d turns: %s", seed, pr.Status, turn, pr.Why)
			}
			due := pr.Due[rng.IntN(len(pr.Due))]
			executor := effecttest.NewFake(receivers[due.Step.Name]) // forgets all, each time
			heal := executor.Inject(faults[rng.IntN(len(faults))])
			res := runbook.RunStep(t.Context(), executor, due.Op)
			heal()
			if rng.IntN(3) == 0 {
				crashes++
				continue // before the record reached the log
			}
			next, err := journal.Add(plan, runbook.Record{Service: plan.Service, Move: plan.Move,
				Step: due.Step.Name, Member: due.Step.Member, Outcome: res.Outcome, Evidence: res.Evidence})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			journal = next
		}
		for name, r := range receivers {
			if site, token := r.Active("shop"); site != "dr" || token != plan.Move {
				t.Errorf("seed %d: %s has %s at %v", seed, name, site, token)
			}
			if snap := r.Snapshot("shop"); !strings.Contains(snap, "writes:1") {
				t.Errorf("seed %d: %s was not written once: %s", seed, name, snap)
			}
		}
		if seed == 0 && crashes == 0 {
			t.Error("no crash happened")
		}
	}
}
