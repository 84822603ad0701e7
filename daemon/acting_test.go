package daemon

import (
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

// What receivers without epochs rest on: who may act, until when, and since
// when the token before is over.
func TestActing(t *testing.T) {
	at := func(s int) draas.Reading {
		return draas.Reading{Boot: time.Duration(s) * time.Second, Wall: time.Duration(1000+s) * time.Second}
	}
	state := func(epoch draas.Epoch, revoked bool) failover.State {
		return failover.State{
			Policy:   failover.Policy{Services: map[draas.ServiceID]failover.ServicePolicy{"crm": {Parts: []draas.ServiceID{"shop", "mail"}}, "wiki": {}}},
			Services: map[draas.ServiceID]*failover.ServiceState{"crm": {Epoch: epoch, Revoked: revoked}, "wiki": {Epoch: 7}},
		}
	}
	a := newActing()
	current := a.current(2 * time.Second)
	may := func(epoch draas.Epoch) bool {
		until, ok := current("shop", runbook.Token{Epoch: epoch})
		return ok && !until.Passed(at(10)) // one second before it ends
	}
	since := func(epoch draas.Epoch) (int, bool) {
		r, known := a.superseded("mail", runbook.Token{Epoch: epoch})
		return int(r.Boot / time.Second), known
	}
	a.decided(state(1, false), at(1))
	if may(1) {
		t.Error("a member that was never in touch may act")
	}
	a.touched(at(9))
	a.touched(at(5)) // overtaken
	if !may(1) || may(2) || may(0) {
		t.Error("epoch 1 is in force, and it alone")
	}
	if until, _ := current("shop", runbook.Token{Epoch: 1}); until != draas.DeadlineAt(at(9), 2*time.Second) {
		t.Errorf("it may act until %+v", until)
	}
	if _, ok := current("nobody", runbook.Token{Epoch: 7}); ok {
		t.Error("a service that no policy has is acted for")
	}
	if _, known := since(1); known {
		t.Error("what was ended before this run is not known")
	}
	a.decided(state(1, true), at(10))
	if may(1) {
		t.Error("an epoch that is revoked is acted for")
	}
	a.decided(state(1, true), at(11)) // nothing new
	a.decided(state(2, false), at(12))
	if !may(2) || may(1) {
		t.Error("epoch 2 is in force, and it alone")
	}
	if s, known := since(2); !known || s != 10 {
		t.Errorf("epoch 1 ended at %d s, %v; want 10", s, known)
	}
	if _, known := since(3); known {
		t.Error("epoch 3 is not in force")
	}
	a.restart()
	a.decided(state(2, false), at(20))
	if _, known := since(2); known || may(2) {
		t.Error("a restart knows of a time before it, or is in touch")
	}
	a.touched(at(9))
	if !may(2) {
		t.Error("a restart stays out of touch")
	}
}

// The gates outlive a file, with what they know; other times make others.
func TestGatesOutliveAFile(t *testing.T) {
	a, now := newActing(), func() draas.Reading { return draas.Reading{} }
	c := &config.Config{Raft: config.Raft{Election: time.Second}}
	z := config.Zone{ID: "public", Provider: config.ProviderDynDNS2, Hosted: config.Hosted{Late: time.Second}}
	first, err := a.gate(c, z, now)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := a.gate(c, z, now); again != first {
		t.Error("the same file makes another gate")
	}
	if account := a.account("public"); account != a.account("public") || account == a.account("other") {
		t.Error("a zone's account does not outlive a file, or two zones share one")
	}
	other := z
	other.ID = "other"
	if g, _ := a.gate(c, other, now); g == first {
		t.Error("two zones share a gate")
	}
	z.Hosted.Late = 2 * time.Second
	if g, _ := a.gate(c, z, now); g == first {
		t.Error("other times make no other gate")
	}
	// What may be sent ends well before what is waited for.
	if may, window := c.ActWindow(); window < may+c.Raft.Election {
		t.Errorf("%v and %v: a leader that was cut off is heard for an election time", may, window)
	}
}

// Within an epoch the latest turn alone is acted for; one that a person asked
// for is by hand, whoever asked for the move before.
func TestActingForATurn(t *testing.T) {
	at := draas.Reading{Boot: time.Minute, Wall: time.Hour}
	state := func(turn uint64, operator string) failover.State {
		return failover.State{
			Policy: failover.Policy{Services: map[draas.ServiceID]failover.ServicePolicy{"crm": {Parts: []draas.ServiceID{"shop", "mail"}}}},
			Services: map[draas.ServiceID]*failover.ServiceState{"crm": {Epoch: 3, Last: &failover.Move{Epoch: 3, Operator: "ann"},
				Entries: map[draas.ServiceID]failover.Entry{"shop": {Site: "dr", Turn: turn, Operator: operator}}}},
		}
	}
	a := newActing()
	current := a.current(time.Second)
	may := func(service draas.ServiceID, turn uint64) bool {
		_, ok := current(service, runbook.Token{Epoch: 3, Turn: turn})
		return ok
	}
	a.touched(at)
	a.decided(state(2, ""), at)
	if !may("shop", 2) || may("shop", 1) || may("shop", 3) || may("shop", 0) || !may("mail", 0) || may("mail", 2) {
		t.Error("turn 2 of shop is in force, and turn 0 of mail, and they alone")
	}
	if a.asked("shop", runbook.Token{Epoch: 3, Turn: 2}) || !a.asked("mail", runbook.Token{Epoch: 3}) {
		t.Error("a person asked for the move, not for the turn")
	}
	a.decided(state(3, "bob"), at)
	if !may("shop", 3) || may("shop", 2) || !a.asked("shop", runbook.Token{Epoch: 3, Turn: 3}) || a.asked("shop", runbook.Token{Epoch: 3, Turn: 2}) {
		t.Error("turn 3 of shop is in force, and asked for")
	}
}
