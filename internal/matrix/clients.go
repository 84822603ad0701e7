package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"time"

	"github.com/draasd/draas/measure"
	"github.com/draasd/draas/rto"
)

// The kinds of client.
const (
	kindFresh    = "fresh"    // asks the authorities for the name, and connects, for every request
	kindKept     = "kept"     // keeps its connection, and asks for the name when it must be made anew
	kindResolver = "resolver" // asks a caching resolver, keeps the answer as long as it lives
	kindLong     = "long"     // one TCP connection for ever, on which it asks and is answered
)

func kinds() []string { return []string{kindFresh, kindKept, kindResolver, kindLong} }

// asker asks over and over, at its rate, whatever becomes of what it asked
// before.
type asker struct {
	Name      string
	URL       string
	Kind      string
	Resolvers []string
	Direct    bool // at a site, whoever is active
	Writes    bool // numbered rows as well
	Rate      float64
	Patience  time.Duration
}

// answer is how one request ended, by the clock that all processes of this
// machine read: Unix nanoseconds.
type answer struct {
	Asker  string    `json:"k"`
	Direct bool      `json:"d,omitempty"`
	At     int64     `json:"a"`
	Sent   int64     `json:"s"`
	Done   int64     `json:"f"`
	Stamp  int64     `json:"t,omitempty"` // zero: none
	Epoch  uint64    `json:"e,omitempty"`
	Site   string    `json:"p,omitempty"`
	Class  rto.Class `json:"c,omitempty"`
	Why    string    `json:"w,omitempty"`

	// Writes stands in the last line of who wrote, and nothing else.
	Writes *measure.Writes `json:"writes,omitempty"`
}

// runClients asks until in ends, and writes a line for every answer.
func runClients(ctx context.Context, askers []asker, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with its input, which is how this process is told to end
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	var mu sync.Mutex
	var failed error
	enc := json.NewEncoder(out)
	say := func(a answer) {
		mu.Lock()
		defer mu.Unlock()
		if err := enc.Encode(a); err != nil && failed == nil {
			failed = fmt.Errorf("tell answer: %w", err)
			cancel()
		}
	}
	var all sync.WaitGroup
	errs := make([]error, len(askers))
	for i, a := range askers {
		all.Go(func() {
			if a.Kind == kindLong {
				errs[i] = runSession(ctx, a, say)
				return
			}
			errs[i] = a.measure(ctx, say)
		})
	}
	all.Wait()
	return errors.Join(append(errs, failed)...)
}

// measure lets rtotest's engine ask.
func (a asker) measure(ctx context.Context, say func(answer)) error {
	c := measure.Config{URL: a.URL, Rate: a.Rate, Timeout: a.Patience, Resolvers: a.Resolvers,
		Clients: []measure.Kind{map[string]measure.Kind{kindFresh: measure.Fresh, kindKept: measure.KeepAlive, kindResolver: measure.TTL}[a.Kind]},
		Observe: func(e measure.Event) { say(a.answer(e)) }}
	if a.Writes {
		u, err := url.Parse(a.URL)
		if err != nil {
			return fmt.Errorf("parse URL: %w", err)
		}
		u.Path = "/rows"
		c.Write = &measure.WriteConfig{URL: u.String(), Rate: writeRate}
	}
	r, err := measure.Run(ctx, c)
	if err == nil && r.Writes != nil {
		say(answer{Asker: a.Name, Writes: r.Writes})
	}
	return err
}

// writeRate is the writes a second: several in each lag of the copies.
const writeRate = 50

func (a asker) answer(e measure.Event) answer {
	from := e.Start.UnixNano()
	out := answer{Asker: a.Name, Direct: a.Direct, At: from + int64(e.Sample.At), Sent: from + int64(e.Sample.Sent), Done: from + int64(e.Sample.Done),
		Epoch: uint64(e.Sample.Epoch), Site: string(e.Site), Class: e.Sample.Class}
	if e.Sample.Stamp != rto.Unstamped {
		out.Stamp = from + int64(e.Sample.Stamp)
	}
	if e.Err != nil {
		out.Why = e.Err.Error()
	}
	return out
}
