package frontend

import (
	"bufio"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestJudge(t *testing.T) {
	event := time.Unix(1000, 0)
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	s := judge([]sample{
		{due: event.Add(-ms(500)), took: ms(7), site: "1"},
		{due: event.Add(-ms(400)), took: ms(3), site: "1"},
		{due: event.Add(-ms(2)), took: ms(90), site: "2"}, // under way at the event
		{due: event.Add(ms(20)), took: ms(40), site: "2"},
		{due: event.Add(ms(1)), took: ms(2), site: "1"}, // that was answered still
		{due: event.Add(ms(30)), took: ms(300), err: errors.New("reset")},
		{due: event.Add(ms(200)), took: ms(1), site: "2"},
	}, event, "1")
	if s.sent != 7 || s.failed != 1 || s.failure == nil || s.before != 7 || s.stall != 90 || s.p99 != 90 || s.switched != 60 {
		t.Errorf("judged %+v", s)
	}
	if s := judge(nil, event, "1"); s != (seen{}) {
		t.Errorf("judged %+v of nothing", s)
	}
}

// A server that stalls holds up what is due meanwhile, and that is counted
// from when it was due: one load of few connections must not wait itself out of
// the stall.
func TestAskerCountsFromWhenDue(t *testing.T) {
	var asked atomic.Int64
	stall := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Site", "1")
		if asked.Add(1) == 20 {
			<-stall
		}
		_, _ = w.Write([]byte("hello"))
	}))
	defer srv.Close()
	stop := make(chan struct{})
	const long = 200 * time.Millisecond
	release := time.AfterFunc(long, func() { close(stall) })
	defer release.Stop()
	end := time.AfterFunc(2*long, func() { close(stop) })
	defer end.Stop()
	samples := asker{srv.Listener.Addr().String(), 1, 500}.run(t.Context(), stop)
	waited := 0
	for _, s := range samples {
		if s.err != nil || s.site != "1" {
			t.Fatalf("site %q, %v", s.site, s.err)
		}
		if s.took > long/4 {
			waited++
		}
	}
	// At 500 a second some 70 are due in the stall's first 150 ms.
	if waited < 30 {
		t.Errorf("%d of %d requests waited, as if a stall held up only who was there", waited, len(samples))
	}
}

func TestAskerAsFastAsItGoes(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("hello")) }))
	defer srv.Close()
	stop := make(chan struct{})
	end := time.AfterFunc(100*time.Millisecond, func() { close(stop) })
	defer end.Stop()
	samples := asker{address: srv.Listener.Addr().String(), clients: 2}.run(t.Context(), stop)
	if len(samples) < 10 {
		t.Errorf("%d requests in 100 ms", len(samples))
	}
	for _, s := range samples {
		if s.err != nil || s.took > 5*time.Second {
			t.Fatalf("%v after %v", s.err, s.took)
		}
	}
}

func TestReadAnswer(t *testing.T) {
	for _, c := range []struct{ text, site, err string }{
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Site: 2\r\n\r\nok", "2", ""},
		{"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "", "503"},
		{"HTTP/1.1 200 OK\r\n\r\nok", "", "no length"},
		{"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", "", "length"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "", "EOF"},
		{"HTTP/1.1 200 OK\r\n", "", "EOF"},
		{"", "", "EOF"},
	} {
		site, err := readAnswer(bufio.NewReader(strings.NewReader(c.text)))
		if c.err == "" && (err != nil || site != c.site) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%q: %q, %v", c.text, site, err)
		}
	}
}
