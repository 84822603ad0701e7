package failover

import (
	"testing"
	"time"

	"github.com/draasd/draas/runbook"
)

// A provider that is away holds no other up; the plans of version 1, which
// members of an older build step by, have one step after the other.
func TestStepsAreDueAtOnce(t *testing.T) {
	steps := []runbook.Step{{Name: "dns", Effect: "dns", Timeout: time.Second}, {Name: "dns@backup", Effect: "dns@backup", Timeout: time.Second}}
	for version, want := range map[int]int{0: 1, 1: 1, 2: 2} {
		m := Move{Kind: MoveFailover, From: "primary", To: "dr", Epoch: 2}
		m.plan("shop", steps, version)
		if err := m.Plan.Validate(); err != nil {
			t.Fatal(err)
		}
		if due := runbook.Next(m.Plan, nil).Due; len(due) != want || due[0].Step.Member != "dr" {
			t.Errorf("version %d: due are %+v, want %d", version, due, want)
		}
	}
	if steps[1].After != nil {
		t.Error("the policy's own steps were changed")
	}
}
