package frontend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Follower is what a member last heard of a frontend about a service.
type Follower struct {
	Frontend string
	// Heard is false when the frontend has not been heard of lately: whatever
	// it was, it may be something else by now.
	Heard bool
	Report
}

// EffectConfig describes the effect on the frontends.
type EffectConfig struct {
	// Followers lists what is known of the frontends of a service, each once,
	// and a channel that is closed when that changes.
	Followers func(draas.ServiceID) ([]Follower, <-chan struct{})
	// Follow is how long a frontend may take to follow, for the promise and
	// for how long Do waits. Default DefaultFollow.
	Follow time.Duration
}

// DefaultFollow is how long a frontend that is heard may take to follow: it is
// told at once, and asks again after a lost answer.
const DefaultFollow = 2 * time.Second

// Effect is that of moving users by frontends. They follow the log by
// themselves, so Do sends nothing: it waits until they say that they have.
type Effect struct {
	cfg      EffectConfig
	released runbook.Released
}

var _ runbook.Effect = (*Effect)(nil)

// NewEffect returns the effect.
func NewEffect(cfg EffectConfig) *Effect {
	if cfg.Follow == 0 {
		cfg.Follow = DefaultFollow
	}
	return &Effect{cfg: cfg}
}

// Promise is strong: the log orders the decisions that the frontends follow,
// and each refuses what is older than what it has seen.
func (e *Effect) Promise() runbook.Promise {
	return runbook.Promise{CompareAndSet: runbook.Strong, Worst: 2 * e.cfg.Follow}
}

// Done asks what the frontends last said. It answers Yes when at the least one
// is heard and all that are heard lead to the operation's site at its epoch.
// One that is not heard misleads nobody for longer than its permit.
func (e *Effect) Done(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
	if err := ctx.Err(); err != nil {
		return runbook.Unknown, "", err
	}
	answer, evidence, err := e.look(op)
	if answer == runbook.Yes && e.released.Has(op) {
		return runbook.No, evidence + "; released", nil
	}
	return answer, evidence, err
}

func (e *Effect) look(op runbook.Op) (runbook.Answer, string, error) {
	all, _ := e.cfg.Followers(op.Service)
	var said []string
	heard, behind := 0, 0
	for _, f := range all {
		if !f.Heard {
			said = append(said, f.Frontend+": not heard")
			continue
		}
		heard++
		text := fmt.Sprintf("%s: epoch=%s site=%s %s", f.Frontend, f.Epoch, f.Site, f.State)
		if f.Reason != "" {
			text += " (" + f.Reason + ")"
		}
		said = append(said, text)
		if f.Epoch != op.Token.Epoch || f.Site != op.To || f.State != Open {
			behind++
		}
	}
	evidence := strings.Join(said, "; ")
	switch {
	case behind > 0:
		return runbook.No, evidence, nil
	case heard == 0:
		return runbook.Unknown, evidence, fmt.Errorf("no frontend of %s was heard: %s", op.Service, evidence)
	}
	return runbook.Yes, evidence, nil
}

// Do waits until the frontends that are heard have followed.
func (e *Effect) Do(ctx context.Context, op runbook.Op) error {
	if op.Token.Epoch == 0 {
		return errors.New("epoch 0 names no activation")
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Follow)
	defer cancel()
	for {
		if e.released.Has(op) {
			return fmt.Errorf("follow %v: %w", op.Token, runbook.ErrReleased)
		}
		all, changed := e.cfg.Followers(op.Service)
		for _, f := range all {
			if f.Heard && (runbook.Token{Epoch: f.Epoch}).Compare(op.Token) > 0 {
				return fmt.Errorf("%s leads by epoch %s: %w", f.Frontend, f.Epoch, draas.ErrStaleEpoch)
			}
		}
		answer, evidence, err := e.look(op)
		if answer == runbook.Yes {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if err != nil {
				return err
			}
			return fmt.Errorf("not all frontends have followed: %s", evidence)
		}
	}
}

// Release records that the token is given up. The frontends follow the log,
// and only a later activation leads them elsewhere.
func (e *Effect) Release(_ context.Context, op runbook.Op) error {
	e.released.Add(op)
	return nil
}
