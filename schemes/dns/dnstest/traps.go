package dnstest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// unchanged does something that may not change anything.
func (r *rig) unchanged(do func()) {
	r.t.Helper()
	before := r.fake.Dump()
	do()
	if after := r.fake.Dump(); after != before {
		r.t.Errorf("changed from\n%s\nto\n%s", before, after)
	}
}

// fails expects an error of a kind, and of the whole an error that can be read.
func (r *rig) fails(e runbook.Effect, op runbook.Op, kinds ...error) {
	r.t.Helper()
	err := Do(r.t, e, op)
	if err == nil {
		r.t.Fatalf("Do(%v, %s) succeeded, want %v", op.Token, op.To, kinds)
	}
	for _, kind := range kinds {
		if !errors.Is(err, kind) {
			r.t.Errorf("Do(%v, %s): %v, want %v", op.Token, op.To, err, kind)
		}
	}
	if strings.Contains(err.Error(), "%!") || len(err.Error()) > 4000 {
		r.t.Errorf("Do: %v", err)
	}
}

func lostAnswer(r *rig) {
	f, e := r.executor()
	MustDo(r.t, e, Op(1, 0))
	f.SetRule(First(1, Writes(LoseAnswer)))
	_, before := f.Counts()
	err := Do(r.t, e, Op(2, 1))
	_, after := f.Counts()
	if r.CompareAndSet == runbook.Strong && err != nil {
		r.t.Errorf("Do: %v", err)
	}
	if err != nil && !errors.Is(err, dns.ErrUnanswered) {
		r.t.Errorf("Do: %v", err)
	}
	if after != before+1 {
		r.t.Errorf("%d requests, one of them lost", after-before)
	}
	MustDo(r.t, e, Op(2, 1))
}

func failedRead(r *rig) {
	f, e := r.executor()
	MustDo(r.t, e, Op(5, 0))
	for _, fate := range []Fate{Lose, Down} {
		f.SetRule(Reads(fate))
		r.unchanged(func() {
			for _, op := range []runbook.Op{Op(4, 1), Op(5, 0), Op(6, 1)} {
				if err := Do(r.t, e, op); !errors.Is(err, dns.ErrLookup) && !errors.Is(err, draas.ErrStaleEpoch) {
					r.t.Errorf("Do(%v): %v", op.Token, err)
				}
			}
			Expect(r.t, e, Op(5, 0), runbook.Unknown)
		})
	}
	f.SetRule(nil)
	MustDo(r.t, e, Op(6, 1))
}

func garbledRead(r *rig) {
	f, e := r.executor()
	MustDo(r.t, e, Op(5, 0))
	f.SetRule(Reads(Garble))
	r.unchanged(func() {
		r.fails(e, Op(6, 1), dns.ErrLookup)
		Expect(r.t, e, Op(5, 0), runbook.Unknown)
	})
}

func othersUntouched(r *rig) {
	others := []mdns.RR{
		RR(r.t, `%s 300 IN MX 10 mail.example.net.`, Shop),
		RR(r.t, `%s 300 IN TXT "v=spf1 -all"`, Shop),
		RR(r.t, `www.%s 300 IN A 192.0.2.99`, Shop),
		RR(r.t, `_draas.www.%s 300 IN TXT "epoch=9 site=primary"`, Shop),
	}
	// What a person had at the name goes: that is the move.
	r.fake.Seed(append(others, RR(r.t, `%s 300 IN A 192.0.2.98`, Shop))...)
	_, e := r.executor()
	MustDo(r.t, e, Op(1, 0))
	MustDo(r.t, e, Op(2, 1))
	dump := r.fake.Dump()
	for _, want := range []string{"mail.example.net", "v=spf1 -all", "192.0.2.99", "epoch=9 site=primary"} {
		if !strings.Contains(dump, want) {
			r.t.Errorf("%s is gone:\n%s", want, dump)
		}
	}
	if strings.Contains(dump, "192.0.2.98") {
		r.t.Errorf("the old address stayed:\n%s", dump)
	}
}

func foreignEpoch(r *rig) {
	r.fake.Seed(RR(r.t, `_draas.%s 300 IN TXT "mine, hands off"`, Shop), RR(r.t, `%s 300 IN A 192.0.2.98`, Shop))
	_, e := r.executor()
	r.unchanged(func() {
		r.fails(e, Op(1, 0), dns.ErrForeign)
		if evidence := Expect(r.t, e, Op(1, 0), runbook.No); !strings.Contains(evidence, "hands off") {
			r.t.Errorf("evidence %q", evidence)
		}
	})
	two := r.Service.rig(r.t)
	two.fake.Seed(RR(r.t, `_draas.%s 300 IN TXT "epoch=3 site=dr"`, Shop), RR(r.t, `_draas.%s 300 IN TXT "epoch=4 site=dr"`, Shop))
	_, e = two.executor()
	two.unchanged(func() { two.fails(e, Op(5, 0), dns.ErrForeign) })
}

func neverEmpty(r *rig) {
	r.fake.Seed(RR(r.t, `%s 300 IN A 192.0.2.98`, Shop))
	r.dns.Watch(Shop)
	_, e := r.executor(func(x *Executor) {
		x.Names = append(Names(), dns.Name{Name: "v6.example.org.", Service: "v6", TTL: time.Minute, Targets: map[draas.SiteID]dns.Target{
			"primary": {Addresses: Addrs("192.0.2.10")}, "dr": {Addresses: Addrs("2001:db8::20")}}})
	})
	op := func(epoch draas.Epoch, site int) runbook.Op {
		o := Op(epoch, site)
		o.Service = "v6"
		return o
	}
	MustDo(r.t, e, op(1, 0))
	r.dns.Watch("v6.example.org.")
	for epoch := draas.Epoch(2); epoch < 6; epoch++ {
		MustDo(r.t, e, op(epoch, int(epoch)%2))
		MustDo(r.t, e, Op(epoch, int(epoch)%2))
	}
	if empty := r.dns.Empty(); len(empty) > 0 {
		r.t.Errorf("empty %d times: %v", len(empty), empty[0])
	}
}

func setRight(r *rig) {
	_, e := r.executor()
	MustDo(r.t, e, Op(1, 0))
	r.fake.Seed(RR(r.t, `%s 5 IN A 192.0.2.66`, Shop)) // somebody adds one
	Expect(r.t, e, Op(1, 0), runbook.No)
	MustDo(r.t, e, Op(1, 0))
	if strings.Contains(r.fake.Dump(), "192.0.2.66") {
		r.t.Error("it stayed")
	}
}

func throttled(r *rig) {
	f, e := r.executor()
	MustDo(r.t, e, Op(1, 0))
	for i, rule := range []Rule{Reads(Throttle), Writes(Throttle1s)} {
		f.SetRule(First(1, rule))
		start := time.Now()
		MustDo(r.t, e, Op(draas.Epoch(i+2), (i+1)%2))
		if took := time.Since(start); i == 1 && took < time.Second {
			r.t.Errorf("Retry-After: 1, and it took %v", took)
		}
	}
	f.SetRule(First(2, Reads(Throttle)))
	Expect(r.t, e, Op(3, 0), runbook.Yes)
	f.SetRule(All(Throttle))
	// It gives up when the next pause would be too long: half-way at the latest.
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Second)
	defer cancel()
	r.unchanged(func() {
		if err := e.Do(ctx, Op(4, 1)); !errors.Is(err, dns.ErrThrottled) {
			r.t.Errorf("Do: %v", err)
		}
	})
}

func noTimeToWait(r *rig) {
	f, e := r.executor()
	MustDo(r.t, e, Op(1, 0))
	f.SetRule(Writes(Throttle30s))
	ctx, cancel := context.WithTimeout(r.t.Context(), 15*time.Second)
	defer cancel()
	if err := e.Do(ctx, Op(2, 1)); !errors.Is(err, dns.ErrThrottled) || ctx.Err() != nil {
		r.t.Errorf("Do: %v, and there was %v left", err, ctx.Err())
	}
}

func failsForAWhile(r *rig) {
	f, e := r.executor()
	MustDo(r.t, e, Op(1, 0))
	f.SetRule(Writes(Down))
	r.unchanged(func() { r.fails(e, Op(2, 1), dns.ErrDown) })
	f.SetRule(All(Down))
	r.unchanged(func() { r.fails(e, Op(2, 1), dns.ErrLookup, dns.ErrDown) })
	Expect(r.t, e, Op(1, 0), runbook.Unknown)
	f.SetRule(First(2, All(Down)))
	if res := runbook.RunStep(r.t.Context(), e, Op(2, 1)); res.Outcome != runbook.OutcomeDone && r.CompareAndSet == runbook.Strong {
		r.t.Errorf("%+v", res)
	}
	MustDo(r.t, e, Op(2, 1))
}

func rotated(r *rig) {
	_, e := r.executor()
	MustDo(r.t, e, Op(1, 0))
	r.fake.Rotate()
	r.unchanged(func() { r.fails(e, Op(2, 1), dns.ErrCredentials) })
	Expect(r.t, e, Op(1, 0), runbook.Unknown)
	r.writeCredentials()
	MustDo(r.t, e, Op(2, 1))
	if err := os.Chmod(r.file, 0o604); err != nil {
		r.t.Fatal(err)
	}
	r.unchanged(func() { r.fails(e, Op(3, 0), dns.ErrLookup) })
}

func secrets(r *rig) {
	f, e := r.executor()
	r.fake.Echo()
	_, secret := r.fake.Credentials()
	var said []error
	try := func(rule Rule) {
		f.SetRule(rule)
		ctx, cancel := context.WithTimeout(r.t.Context(), 500*time.Millisecond)
		defer cancel()
		said = append(said, e.Do(ctx, Op(1, 0)))
		_, evidence, err := e.Done(ctx, Op(1, 0))
		said = append(said, err, errors.New(evidence))
	}
	for _, rule := range []Rule{Writes(Refuse), All(Lose), All(Down), Writes(LoseAnswer), All(Garble), All(Throttle), All(Redirect)} {
		try(rule)
	}
	r.fake.Rotate() // the old one is refused
	try(nil)
	found := 0
	for _, err := range said {
		if err == nil {
			continue
		}
		found++
		for deep := []error{err}; len(deep) > 0; deep = deep[1:] {
			for _, text := range []string{deep[0].Error(), fmt.Sprintf("%+v", deep[0]), fmt.Sprintf("%#v", deep[0])} {
				if strings.Contains(text, secret) {
					r.t.Fatalf("the secret stands in %s", text)
				}
			}
			switch u := deep[0].(type) {
			case interface{ Unwrap() error }:
				if u.Unwrap() != nil {
					deep = append(deep, u.Unwrap())
				}
			case interface{ Unwrap() []error }:
				deep = append(deep, u.Unwrap()...)
			}
		}
	}
	if found < 10 {
		r.t.Errorf("only %d errors", found)
	}
}

func redirected(r *rig) {
	f, e := r.executor()
	f.SetRule(All(Redirect))
	r.unchanged(func() { r.fails(e, Op(1, 0), dns.ErrLookup) })
	f.SetRule(nil)
	MustDo(r.t, e, Op(1, 0))
	f.SetRule(Writes(Redirect))
	r.unchanged(func() { r.fails(e, Op(2, 1), dns.ErrChange) })
}

func byCNAME(r *rig) {
	_, e := r.executor(func(x *Executor) { x.Names = CNAMEs() })
	MustDo(r.t, e, Op(1, 0))
	MustDo(r.t, e, Op(2, 1))
	if dump := r.fake.Dump(); !strings.Contains(dump, "west.example.net") || strings.Contains(dump, "east.example.net") {
		r.t.Errorf("there is\n%s", dump)
	}
	// Addresses instead, and back.
	_, a := r.executor()
	if !r.SwapsCNAME {
		r.unchanged(func() { r.fails(a, Op(3, 0), dns.ErrForeign) })
	} else {
		r.dns.Watch(Shop)
		MustDo(r.t, a, Op(3, 0))
		MustDo(r.t, e, Op(4, 1))
		if empty := r.dns.Empty(); len(empty) > 0 {
			r.t.Errorf("empty: %v", empty[0])
		}
	}
	// A CNAME does not fit beside others.
	other := r.Service.rig(r.t)
	other.fake.Seed(RR(r.t, `%s 300 IN MX 10 mail.example.net.`, Shop))
	_, e = other.executor(func(x *Executor) { x.Names = CNAMEs() })
	other.unchanged(func() { other.fails(e, Op(1, 0), dns.ErrForeign) })
}

func racing(r *rig) {
	const executors = 8
	effects := make([]*dns.Hosted, executors)
	for i := range effects {
		_, effects[i] = r.executor()
	}
	var wg sync.WaitGroup
	errs := make([]error, executors)
	for i, e := range effects {
		wg.Go(func() { errs[i] = Do(r.t, e, Op(draas.Epoch(i+1), i%2)) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil && !errors.Is(err, draas.ErrStaleEpoch) {
			r.t.Errorf("epoch %d: %v", i+1, err)
		}
	}
	if errs[executors-1] != nil {
		r.t.Errorf("the highest: %v", errs[executors-1])
	}
	Expect(r.t, effects[0], Op(executors, (executors-1)%2), runbook.Yes)
}

func replays(r *rig) {
	f, e := r.executor()
	f.SetRule(Writes(Keep))
	MustDo(r.t, e, Op(1, 0))
	MustDo(r.t, e, Op(2, 1))
	r.fake.Seed(RR(r.t, `%s 5 IN A 192.0.2.66`, Shop))
	MustDo(r.t, e, Op(2, 1)) // sets it right: a revision
	r.fake.Seed(RR(r.t, `%s 5 IN A 192.0.2.66`, Shop))
	MustDo(r.t, e, Op(2, 1))
	// The target changed in the file, and back, at one epoch.
	fo, other := r.executor(func(x *Executor) {
		x.Names[0].Targets["dr"] = dns.Target{Addresses: Addrs("203.0.113.99")}
	})
	fo.SetRule(Writes(Keep))
	MustDo(r.t, other, Op(2, 1))
	MustDo(r.t, e, Op(2, 1))
	r.unchanged(func() {
		if statuses := fo.Replay(); len(statuses) != 1 || statuses[0] < http.StatusBadRequest {
			r.t.Errorf("a replay at one epoch ended %v", statuses)
		}
	})
	MustDo(r.t, e, Op(3, 0))
	if n := f.HeldBack(); n != 6 {
		r.t.Fatalf("%d requests were kept", n)
	}
	r.unchanged(func() {
		if statuses := append(f.Replay(), fo.Replay()...); slices.ContainsFunc(statuses, func(s int) bool { return s < http.StatusBadRequest }) {
			r.t.Errorf("replays ended %v", statuses)
		}
	})
	Expect(r.t, e, Op(3, 0), runbook.Yes)
}
