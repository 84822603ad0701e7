package demo

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/measure"
)

// late is a user who goes by an old answer of DNS: always to the primary's
// frontend.
type late struct {
	status int
	site   draas.SiteID
	epoch  string
}

func askLate(ctx context.Context, t *testing.T, s *stage) late {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, holdFor("fast")+5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.net.usersAt(primary)+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return late{}
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return late{res.StatusCode, draas.SiteID(res.Header.Get(measure.HeaderSite)), res.Header.Get(measure.HeaderEpoch)}
}

// Who comes late to the frontend at the site that has lost the service is led
// on to the one that has it, by the permit from the log. When that frontend
// hears nobody who knows better, the permit ends: users get 503, and never the
// old site. Real processes.
func TestLateUsers(t *testing.T) {
	ctx := t.Context()
	o, err := Options{Draasd: build(t), Scheme: schemeHybrid, Dir: t.TempDir()}.complete()
	if err != nil {
		t.Fatal(err)
	}
	line := newTimeline(t.Output(), false, time.Now())
	s, err := setStage(ctx, o, line)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	for _, who := range append(members(), edgesOf(schemeHybrid)...) {
		text, err := os.ReadFile(s.config(who))
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.Replace(text, []byte(`hold = "6s"`), []byte(`hold = "1s"`), 1) // so as not to wait for it
		if err := os.WriteFile(s.config(who), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.activate(ctx); err != nil {
		t.Fatal(err)
	}
	if got := askLate(ctx, t, s); got != (late{200, "primary", "1"}) {
		t.Fatalf("before the move: %+v", got)
	}
	if err := switchover(ctx, s); err != nil {
		t.Fatal(err)
	}
	if _, err := s.watch.await(ctx, "the service has moved", moveLimit("fast"), moved, s.crew.fault); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if got := askLate(ctx, t, s); got != (late{200, "dr", "2"}) {
			t.Fatalf("after the move: %+v", got)
		}
	}
	counted := RunResult{}
	if err := s.countEdges(ctx, &counted); err != nil || counted.Forwarded < 20 {
		t.Errorf("%d requests were counted as led on, %v", counted.Forwarded, err)
	}
	client := api.Unix(s.edgeControl(edge))
	defer client.Close()
	if st, err := client.Frontend(ctx); err != nil || len(st.Services) != 1 || st.Services[0].Stands != "primary" || st.Services[0].Site != "dr" {
		t.Errorf("the frontend says of itself %+v, %v", st, err)
	}

	// The site hears nobody any more. Its frontend could still reach the DR
	// site's service, and users still reach the frontend.
	s.links.isolate(primary, drop)
	s.links.valve(users, primary).set(pass)
	var last late
	for deadline := time.Now().Add(30 * time.Second); last.status != http.StatusServiceUnavailable; last = askLate(ctx, t, s) {
		if last != (late{}) && last != (late{200, "dr", "2"}) {
			t.Fatalf("cut off: %+v", last)
		}
		if time.Now().After(deadline) {
			t.Fatalf("led on for ever: %+v", last)
		}
	}
	for range 20 {
		if got := askLate(ctx, t, s); got.status != http.StatusServiceUnavailable {
			t.Fatalf("its permit is over: %+v", got)
		}
	}
	s.links.isolate(primary, pass)
	for deadline := time.Now().Add(20 * time.Second); ; {
		got := askLate(ctx, t, s)
		if got == (late{200, "dr", "2"}) {
			break
		}
		if got.site == "primary" || time.Now().After(deadline) {
			t.Fatalf("heard again: %+v", got)
		}
	}
}
