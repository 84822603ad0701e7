package dyndns2

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// Every return code, and what is none, by what is sent afterwards.
func TestReturnCodes(t *testing.T) {
	stops := func(says string) func(error) bool {
		return func(err error) bool {
			return errors.Is(err, ErrStopped) && !errors.Is(err, ErrResting) && strings.Contains(err.Error(), says)
		}
	}
	rests := func(err error) bool { return errors.Is(err, ErrResting) && !errors.Is(err, ErrStopped) }
	long := strings.Repeat("x", maxAnswer+1)
	tests := map[string]struct {
		status int
		body   string
		want   func(error) bool
		rests  bool
	}{
		"nohost":            {200, "nohost", stops("create it at the service"), false},
		"notfqdn":           {200, "notfqdn\n", stops("full one"), false},
		"numhost":           {200, "numhost", stops("several addresses"), false},
		"badauth":           {200, "badauth", stops("correct the credentials"), false},
		"badauth with 401":  {401, "badauth", stops("correct the credentials"), false},
		"401":               {401, "<html>", stops("correct the credentials"), false},
		"403":               {403, "", stops("correct the credentials"), false},
		"badagent":          {200, "badagent", stops("user agent"), false},
		"!donator":          {200, "!donator", stops("plan"), false},
		"abuse":             {200, "abuse", stops("unblocked"), false},
		"a code of its own": {200, "badsys", stops("badsys: a return code that draas does not know"), false},
		"a page":            {200, "<html>good 203.0.113.20</html>", stops("no return code"), false},
		"nothing":           {200, " \r\n", stops("empty"), false},
		"two lines":         {200, "good 203.0.113.20\ngood 203.0.113.20", stops("several lines"), false},
		"far too much":      {200, long, stops("more than 1024 octets"), false},
		"404":               {404, "good 203.0.113.20,2001:db8::20", stops("HTTP status 404"), false},
		"another address":   {200, "good 198.51.100.7", stops("leads to 198.51.100.7"), false},
		"ignored by Dyn":    {200, "good 127.0.0.1", stops("user agent"), false},
		"911":               {200, "911", rests, true},
		"911 with 503":      {503, "911", rests, true},
		"dnserr":            {200, "dnserr", rests, true},
		"too many requests": {429, "slow down", rests, true},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			n := 0
			b.front.set(func() {
				b.answer = func(w http.ResponseWriter, r *http.Request) bool { n++; return say(c.status, c.body)(w, r) }
			})
			sent := func() (out int) { b.front.set(func() { out = n }); return out }
			again := func(want int, when string) {
				t.Helper()
				for range 3 {
					if err := do(t, b.Effect, op(2, 1)); !c.want(err) {
						t.Errorf("%s: Do: %v", when, err)
					}
				}
				if sent() != want {
					t.Fatalf("%s: %d requests, want %d", when, sent(), want)
				}
			}
			again(1, "at once")
			evidence := expect(t, b.Effect, op(2, 1), runbook.No)
			if !strings.Contains(evidence, "stopped: ") && !strings.Contains(evidence, "resting for 30m0s more") {
				t.Errorf("evidence: %s", evidence)
			}
			b.clock.advance(restTime - time.Second)
			again(1, "29:59 later")
			if c.rests {
				b.touch()
				again(1, "after a new credentials file")
				b.clock.advance(time.Second)
				again(2, "30:00 later")
				return
			}
			b.clock.advance(240 * time.Hour)
			again(1, "ten days later")
			b.touch()
			again(2, "after a new credentials file")
			// And what a reload does: a new effect.
			b.Effect = b.executor()
			again(3, "after a reload")
		})
	}
}

// nochg is a success, and the same addresses are not sent again after it.
func TestNoChangeIsNeverRepeated(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.service.do(func() {
		b.lagging = true
		b.service.set("shop.example.org", "203.0.113.20,2001:db8::20") // another executor's
	})
	for range 3 {
		if err := do(t, b.Effect, op(2, 1)); err != nil {
			t.Fatalf("Do: %v", err)
		}
	}
	expect(t, b.Effect, op(2, 1), runbook.No) // who asks the authorities is not moved
	for range 3 {
		b.clock.advance(time.Hour)
		if err := do(t, b.Effect, op(2, 1)); !errors.Is(err, ErrBehind) {
			t.Errorf("Do: %v", err)
		}
	}
	if n := b.count(); n != 1 {
		t.Fatalf("%d requests, want one", n)
	}
	// A later epoch may find them moved in between, so it asks; a second nochg
	// ends it.
	for range 3 {
		if err := do(t, b.Effect, op(3, 1)); !errors.Is(err, ErrStopped) {
			t.Errorf("Do: %v", err)
		}
		b.clock.advance(time.Hour)
	}
	if n := b.count(); n != 2 {
		t.Fatalf("%d requests, want two", n)
	}
	b.unblocked(t)
	b.follow()
	mustDo(t, b.Effect, op(3, 1))
	if n := b.count(); n != 2 {
		t.Errorf("%d requests for what stands there", n)
	}
}

// What the service has confirmed is not sent again while its authorities may
// still be on their way.
func TestGoodIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *Config) { c.Lag = 3 * time.Second })
	b.service.do(func() { b.lagging = true })
	for range 4 {
		if err := do(t, b.Effect, op(2, 1)); err != nil {
			t.Fatalf("Do: %v", err)
		}
	}
	if n := b.count(); n != 1 {
		t.Fatalf("%d requests, want one", n)
	}
	followed := make(chan struct{})
	go func() { <-time.After(200 * time.Millisecond); b.follow(); close(followed) }()
	expect(t, b.Effect, op(2, 1), runbook.Yes)
	<-followed
	// Somebody changes it by hand: it is set right, but not before the lag.
	b.service.do(func() { b.service.set("shop.example.org", "192.0.2.10,2001:db8::10") })
	if err := do(t, b.Effect, op(2, 1)); err != nil || b.count() != 1 {
		t.Errorf("Do: %v, %d requests", err, b.count())
	}
	b.clock.advance(3 * time.Second)
	mustDo(t, b.Effect, op(2, 1))
	b.unblocked(t)
}

// An answer that says nothing of the request is no reason to send it again:
// the authorities tell.
func TestReadBackBeforeAnything(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(*front, http.ResponseWriter, *http.Request) bool{
		"502": func(f *front, w http.ResponseWriter, r *http.Request) bool {
			f.carryOut(r)
			return say(http.StatusBadGateway, "<html>")(w, r)
		},
		"timeout": (*front).carryOutAndHang,
		"cut off": func(f *front, w http.ResponseWriter, r *http.Request) bool {
			f.carryOut(r)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, hasty(t))
			b.front.set(func() {
				b.answer = func(w http.ResponseWriter, r *http.Request) bool { return answer(b.front, w, r) }
			})
			if err := do(t, b.Effect, op(2, 1)); !errors.Is(err, ErrUnanswered) {
				t.Errorf("Do: %v", err)
			}
			if err := do(t, b.Effect, op(2, 1)); err != nil || b.count() != 1 {
				t.Errorf("Do again: %v, %d requests", err, b.count())
			}
			expect(t, b.Effect, op(2, 1), runbook.Yes)
			b.unblocked(t)
		})
	}
}

// partingServer ends its answer, with nothing in it, when it sees its client leave.
type partingServer struct{}

func (partingServer) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
}

// What ends when nobody waits any more is no answer, and stops nothing.
func TestAnswerToNobody(t *testing.T) {
	t.Parallel()
	u, err := url.Parse("https://members.example/nic/update")
	if err != nil {
		t.Fatal(err)
	}
	c := &client{url: u, http: &http.Client{Transport: partingServer{}}}
	for name, want := range map[string]string{"timeout": "timeout", "canceled": context.Canceled.Error()} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if name == "canceled" {
			cancel()
		}
		r, _, err := c.update(ctx, "shop.example.org.", nil, Credentials{})
		cancel()
		if err == nil || err.Error() != want {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// What is said of the account stops all its hosts, what is said of a host only
// that one.
func TestScopeOfAStop(t *testing.T) {
	t.Parallel()
	second := atName("wiki.example.org.")
	second.Service = "wiki"
	both := func(c *Config) { c.Names = append(c.Names, second) }
	wiki := op(2, 1)
	wiki.Service = "wiki"
	for code, want := range map[string]int{"nohost": 2, "notfqdn": 2, "numhost": 2, "wat": 2, "badauth": 1, "badagent": 1, "!donator": 1, "abuse": 1, "911": 1, "dnserr": 1} {
		b := newBench(t, both)
		n := 0
		b.front.set(func() {
			b.answer = func(w http.ResponseWriter, r *http.Request) bool { n++; return say(200, code)(w, r) }
		})
		for range 2 {
			if err := errors.Join(do(t, b.Effect, op(2, 1)), do(t, b.Effect, wiki)); err == nil {
				t.Errorf("%s: no error", code)
			}
		}
		b.front.set(func() {
			if n != want {
				t.Errorf("%s for two hosts: %d requests, want %d", code, n, want)
			}
		})
	}
}

// The account is put right: the next move goes through, without a restart.
func TestOperatorActs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.service.do(func() { b.password = "another" })
	for range 3 {
		if err := do(t, b.Effect, op(2, 1)); !errors.Is(err, ErrStopped) {
			t.Fatalf("Do: %v", err)
		}
	}
	b.unblocked(t)
	b.service.do(func() { b.password, b.failed = secret, false })
	b.touch()
	mustDo(t, b.Effect, op(2, 1))
	if n := b.count(); n != 2 {
		t.Errorf("%d requests, want two", n)
	}
}

// During an outage of the service nobody comes back before 30 minutes, whatever
// moves are asked for.
func TestOutageOfTheService(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.front.set(func() {
		b.answer = func(w http.ResponseWriter, r *http.Request) bool {
			b.service.do(func() { b.down = b.clock.now() })
			return say(200, "911")(w, r)
		}
	})
	epoch := draas.Epoch(2)
	for range 6 {
		if err := do(t, b.Effect, op(epoch, int(epoch)%2)); !errors.Is(err, ErrResting) {
			t.Errorf("Do: %v", err)
		}
		b.front.set(func() { b.answer = nil })
		b.clock.advance(5*time.Minute - time.Second)
		epoch++
	}
	if n := b.count(); n != 0 {
		t.Errorf("%d requests in the half hour", n)
	}
	b.clock.advance(6 * time.Second)
	mustDo(t, b.Effect, op(epoch, 1))
	b.unblocked(t)
}

// The authorities answer what was there before the move that is undone, while a
// request of that move is still on its way: it is not done before it can not
// come any more.
func TestUndoWhileARequestIsUnderWay(t *testing.T) {
	t.Parallel()
	b := newBench(t, hasty(t))
	mustDo(t, b.Effect, op(1, 0))
	b.front.set(func() { b.answer = b.hold })
	if err := do(t, b.Effect, op(2, 1)); !errors.Is(err, ErrUnanswered) {
		t.Fatalf("Do: %v", err)
	}
	ended := reading()
	successor := newFront(t, b.service, b.ca)
	undo := b.executor(func(c *Config) {
		cfg := gateConfig()
		cfg.Request, cfg.Late = 300*time.Millisecond, time.Second
		cfg.Superseded = func(draas.ServiceID, runbook.Token) (draas.Reading, bool) { return ended, true }
		c.Gate, c.URL, c.Authorities = newGate(t, cfg), successor.url, []dns.Server{{Address: successor.dns}}
	})
	evidence := expect(t, undo, op(3, 0), runbook.Unknown) // the addresses are right, so far
	if !strings.Contains(evidence, "192.0.2.10") {
		t.Errorf("evidence: %s", evidence)
	}
	delivered := make(chan struct{})
	go func() { <-time.After(300 * time.Millisecond); b.deliver(); close(delivered) }()
	mustDo(t, undo, op(3, 0))
	<-delivered
	if got := b.stands(); !strings.HasPrefix(got, "192.0.2.10,2001:db8::10 ") || b.count() != 3 {
		t.Errorf("%s stands after %d requests", got, b.count())
	}
}

// A member that is out of touch sends nothing.
func TestWithoutALease(t *testing.T) {
	t.Parallel()
	cfg := gateConfig()
	cfg.Current = func(draas.ServiceID, runbook.Token) (draas.Deadline, bool) { return draas.Deadline{}, true }
	b := newBench(t, func(c *Config) { c.Gate = newGate(t, cfg) })
	if err := do(t, b.Effect, op(2, 1)); !errors.Is(err, dns.ErrNoLease) || b.count() != 0 {
		t.Errorf("Do: %v, %d requests", err, b.count())
	}
	expect(t, b.Effect, op(2, 1), runbook.No)
}

// What cannot be read, and what the service cannot take away, is left alone.
func TestNothingIsSentBlindly(t *testing.T) {
	t.Parallel()
	h := func(qtype uint16) string {
		return map[uint16]string{1: "shop.example.org. 60 IN A 198.51.100.50", 5: "shop.example.org. 60 IN CNAME elsewhere.example.", 28: "shop.example.org. 60 IN AAAA 2001:db8::99"}[qtype]
	}
	onlyIPv4 := func(c *Config) {
		for site, target := range c.Names[0].Targets {
			for _, a := range target.Addresses {
				if a.Is4() {
					target.Addresses = []netip.Addr{a}
				}
			}
			c.Names[0].Targets[site] = target
		}
	}
	for name, c := range map[string]struct {
		change func(*Config)
		fault  func(f *front)
		want   error
		answer runbook.Answer
	}{
		"silent":       {nil, func(f *front) { f.mute = true }, ErrLookup, runbook.Unknown},
		"SERVFAIL":     {nil, func(f *front) { f.rcode = 2 }, ErrLookup, runbook.Unknown},
		"REFUSED":      {nil, func(f *front) { f.rcode = 5 }, ErrLookup, runbook.Unknown},
		"CNAME":        {nil, func(f *front) { f.extra = records(t, h(5)) }, ErrForeign, runbook.No},
		"two A":        {nil, func(f *front) { f.extra = records(t, h(1)) }, ErrForeign, runbook.No},
		"another AAAA": {onlyIPv4, func(f *front) { f.extra = records(t, h(28)) }, ErrForeign, runbook.No},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change := func(cfg *Config) {
				hasty(t)(cfg)
				if c.change != nil {
					c.change(cfg)
				}
			}
			b := newBench(t, change)
			b.front.set(func() { c.fault(b.front) })
			if err := do(t, b.Effect, op(2, 1)); !errors.Is(err, c.want) || b.count() != 0 {
				t.Errorf("Do: %v, %d requests", err, b.count())
			}
			expect(t, b.Effect, op(2, 1), c.answer)
		})
	}
}

// The evidence names each authority, and that there is no epoch; one that is
// silent does not hold the move up, one that is behind does.
func TestEvidence(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	mute, behind := newFront(t, b.service, b.ca), newFront(t, newService(b.clock.now), b.ca)
	mute.set(func() { mute.mute = true })
	e := b.executor(func(c *Config) {
		c.Timeout = 300 * time.Millisecond
		c.Authorities = []dns.Server{{Site: "dr", Address: b.dns}, {Address: mute.dns}}
	})
	mustDo(t, e, op(2, 1))
	evidence := expect(t, e, op(2, 1), runbook.Yes)
	for _, want := range []string{"authority at dr " + b.dns + ": A 203.0.113.20 AAAA 2001:db8::20; ", "authority " + mute.dns + ": query", noEpoch} {
		if !strings.Contains(evidence, want) {
			t.Errorf("evidence %q lacks %q", evidence, want)
		}
	}
	e = b.executor(func(c *Config) { c.Authorities = []dns.Server{{Address: b.dns}, {Address: behind.dns}} })
	if evidence := expect(t, e, op(2, 1), runbook.No); !strings.Contains(evidence, behind.dns+": A "+start) {
		t.Errorf("evidence: %s", evidence)
	}
}

// One epoch has one site, as far as this executor knows.
func TestOneEpochOneSite(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	mustDo(t, b.Effect, op(2, 1))
	if err := do(t, b.Effect, op(2, 0)); err == nil || b.count() != 1 {
		t.Errorf("Do: %v, %d requests", err, b.count())
	}
	if err := do(t, b.Effect, op(1, 0)); !errors.Is(err, draas.ErrStaleEpoch) || b.count() != 1 {
		t.Errorf("Do of an older epoch: %v, %d requests", err, b.count())
	}
	expect(t, b.Effect, op(2, 1), runbook.Yes)
}

// A reload lifts what an operator has to act on, and nothing else.
func TestReload(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	account := NewAccount()
	reload := func() *Effect { return b.executor(func(c *Config) { c.Account = account }) }
	sent := func(e *Effect, code string, want error) (requests int) {
		t.Helper()
		b.front.set(func() {
			b.answer = func(w http.ResponseWriter, r *http.Request) bool { requests++; return say(200, code)(w, r) }
		})
		if err := do(t, e, op(2, 1)); !errors.Is(err, want) {
			t.Errorf("%s: Do: %v", code, err)
		}
		return requests
	}
	if n := sent(reload(), "badauth", ErrStopped); n != 1 {
		t.Errorf("%d requests", n)
	}
	if n := sent(reload(), "911", ErrResting); n != 1 {
		t.Errorf("after a reload that lifts a stop: %d requests", n)
	}
	if n := sent(reload(), "911", ErrResting); n != 0 {
		t.Errorf("after a reload in the half hour: %d requests", n)
	}
	b.clock.advance(restTime)
	if n := sent(reload(), "nochg 203.0.113.20,2001:db8::20", nil); n != 1 {
		t.Errorf("after the half hour: %d requests", n)
	}
	b.clock.advance(time.Hour)
	if n := sent(reload(), "good", ErrBehind); n != 0 {
		t.Errorf("nochg repeated after a reload: %d requests", n)
	}
	refused := b.config()
	refused.Account, refused.Contact = account, ""
	account.stops[""] = stop{why: ErrForeign}
	if _, err := New(refused); err == nil || len(account.stops) != 1 {
		t.Errorf("a configuration that is refused lifts a stop: %v", err)
	}
}
