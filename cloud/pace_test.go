package cloud

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Retry-After, in both its forms, holds for all requests to the service and for
// no other; a date is by the service's clock.
func TestRetryAfter(t *testing.T) {
	for name, value := range map[string]func(f *fake) string{
		"seconds": func(*fake) string { return "40" },
		"date":    func(f *fake) string { return time.Now().Add(f.ahead + 40*time.Second).UTC().Format(http.TimeFormat) },
	} {
		bubble(t, Options{}, func(t *testing.T, f *fake, s *Session) {
			f.set(func() { f.ahead = time.Hour })
			began, n := time.Now(), 0
			f.handle(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/compute") {
					say(w, 200, "{}")
					return
				}
				if n++; n == 1 {
					w.Header().Set("Retry-After", value(f))
					faults["429"](w, r)
					return
				}
				if took := time.Since(began); took < 40*time.Second || took > 42*time.Second {
					t.Errorf("%s: asked after %v", name, took)
				}
				say(w, 200, "{}")
			})
			c, err := s.Service("image")
			if err != nil {
				t.Fatal(err)
			}
			if err := post(t.Context(), c, "x"); err != nil {
				t.Error(err)
			}
			began, n = time.Now(), 0
			var all sync.WaitGroup
			all.Go(func() {
				if err := get(t, s, "image", "y"); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Second)
			if _, paused := pausedOf(s, "image"); paused != 39*time.Second {
				t.Errorf("%s: paused for %v", name, paused)
			}
			if err := get(t, s, "compute", "z"); err != nil || time.Since(began) > 2*time.Second {
				t.Errorf("%s: another service waited %v: %v", name, time.Since(began), err)
			}
			if err := get(t, s, "image", "z"); err != nil {
				t.Error(err)
			}
			all.Wait()
		})
	}
	// Longer than there is time for: it is said, and not waited for.
	bubble(t, Options{RetryFor: 30 * time.Second}, func(t *testing.T, f *fake, s *Session) {
		f.handle(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "9999")
			faults["503"](w, r)
		})
		began := time.Now()
		err := get(t, s, "image", "x")
		if after, again := Temporary(err); !again || after != 2*time.Minute || time.Since(began) > time.Second {
			t.Errorf("after %v: %v", after, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c, err := s.Service("image")
		if err != nil {
			t.Fatal(err)
		}
		err = post(ctx, c, "x")
		if !errors.Is(err, context.DeadlineExceeded) || Uncertain(err) {
			t.Errorf("in a pause: %v", err)
		}
	})
}

func pausedOf(s *Session, name string) (limit int, paused time.Duration) {
	for _, st := range s.Stats() {
		if st.Service == name {
			return st.Limit, st.Paused
		}
	}
	return 0, 0
}

// Rates are the site's, over all services and projects, and a service's.
func TestRates(t *testing.T) {
	o := Options{Rates: []Rate{{RequestsPerSecond: 10}}, ServiceRates: map[string][]Rate{"volumev3": {{RequestsPerSecond: 2}}, "compute": {{BytesPerSecond: 1 << 20}}}}
	bubble(t, o, func(t *testing.T, f *fake, s *Session) {
		f.handle(ok("{}"))
		asks := func(n int, kinds ...string) time.Duration {
			began := time.Now()
			var all sync.WaitGroup
			for i := range n {
				all.Go(func() {
					if err := get(t, s, kinds[i%len(kinds)], "x"); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			return time.Since(began)
		}
		if took := asks(200, "image", "network"); took < 18*time.Second || took > 22*time.Second {
			t.Errorf("200 requests at 10 a second took %v", took)
		}
		if took := asks(40, "block-storage"); took < 18*time.Second || took > 22*time.Second {
			t.Errorf("40 requests at 2 a second took %v", took)
		}
		// An answer that we read slowly on purpose is not the service's fault.
		f.handle(func(w http.ResponseWriter, _ *http.Request) {
			say(w, 200, `{"a":"`+strings.Repeat("x", 10<<20)+`"}`)
		})
		began := time.Now()
		if err := get(t, s, "compute", "x"); err != nil {
			t.Error(err)
		}
		took := time.Since(began)
		if took < 9*time.Second || took > 12*time.Second {
			t.Errorf("10 MiB at 1 MiB/s took %v", took)
		}
	})
	bubble(t, Options{Rates: []Rate{{BytesPerSecond: 1 << 10}}, AnswerTimeout: 5 * time.Second}, func(t *testing.T, f *fake, s *Session) {
		f.handle(ok(`{"a":"` + strings.Repeat("x", 50<<10) + `"}`))
		if err := get(t, s, "image", "x"); err != nil {
			t.Errorf("an answer in 50 s of ours: %v", err)
		}
	})
}

// The limit of a service follows what it bears.
func TestAdapts(t *testing.T) {
	bubble(t, Options{Concurrency: 16, Attempts: 50, RetryFor: time.Hour}, func(t *testing.T, f *fake, s *Session) {
		var mu sync.Mutex
		now, most, refused := 0, 0, 0
		f.handle(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			now++
			most = max(most, now)
			over := now > 6
			if over {
				refused++
			}
			mu.Unlock()
			time.Sleep(100 * time.Millisecond) // the bubble's
			mu.Lock()
			now--
			mu.Unlock()
			if over {
				faults["429"](w, r)
				return
			}
			say(w, 200, "{}")
		})
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				if err := get(t, s, "image", "x"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if limit, _ := pausedOf(s, "image"); limit < 3 || limit > 8 || refused > 150 || most > 16 {
			t.Errorf("limit %d, %d refused, %d at once", limit, refused, most)
		}
	})
}
