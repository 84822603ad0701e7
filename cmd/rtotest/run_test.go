package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas/measure"
	"github.com/draasd/draas/rto"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service answers well, and fails after a number of requests; at another
// number it calls.
type service struct {
	*httptest.Server
	requests atomic.Int64
}

const never = 1 << 40

func newService(t *testing.T, fails, at int64, call func()) *service {
	t.Helper()
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := s.requests.Add(1)
		if n == at {
			call()
		}
		if n > fails {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// rtotest runs the program as the shell would.
func rtotest(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return code, out.String(), errs.String()
}

// decode reads the one object that --json writes.
func decode(t *testing.T, stdout string) measure.Report {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(stdout))
	var r measure.Report
	if err := d.Decode(&r); err != nil {
		t.Fatalf("%v in %q", err, stdout)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("more than one object in %q", stdout)
	}
	return r
}

func signalSelf(t *testing.T, s syscall.Signal) func() {
	return func() {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Error(err)
		}
	}
}

func TestUsage(t *testing.T) {
	exists := filepath.Join(t.TempDir(), "fault")
	if err := os.WriteFile(exists, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want string
	}{
		{"", "want one URL"},
		{"http://a http://b", "want one URL"},
		{"--bogus http://a", "not defined: -bogus"},
		{"--rate 0 http://a", "must be more than zero"},
		{"--timeout 0s http://a", "must be more than zero"},
		{"--max-rto -1s http://a", "must be more than zero"},
		{"--client new http://a", `"new" is not a kind of client`},
		{"--client ttl http://a", "needs a resolver"},
		{"--site a http://a", "want NAME=URL"},
		{"--expect-body ( http://a", "missing closing )"},
		{"--ca /nonexistent http://a", "no such file"},
		{"--ca " + exists + " https://a", "no certificate in"},
		{"--fault-file " + exists + " http://a", "exists already"},
		{"ftp://a", "not an http or https URL"},
	} {
		code, stdout, stderr := rtotest(strings.Fields(c.args)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%q: exit %d, stdout %q, stderr %q; want 2 and %q", c.args, code, stdout, stderr, c.want)
		}
	}
	code, _, stderr := rtotest("--help")
	if code != 0 || !strings.Contains(stderr, "-max-rto") || !strings.Contains(stderr, "SIGUSR1") {
		t.Errorf("--help: exit %d, %q", code, stderr)
	}
}

// TestFlags: every flag arrives where it belongs.
func TestFlags(t *testing.T) {
	o, err := parse(strings.Fields("--rate 50 --timeout 2s --duration 3s --settle 4s --max-rto 5s --json --fault-file /nonexistent/f "+
		"--resolver 192.0.2.1 --resolver 192.0.2.2:54 --client fresh,ttl --client pinned --site a=http://a --site b=http://b "+
		"--expect-site a,b --expect-body ^ok$ http://shop"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c := o.config
	got, err := json.Marshal([]any{c.Rate, c.Timeout, c.Duration, c.Settle, o.maxRTO, o.json, o.faultFile, c.Resolvers, c.Clients,
		c.Sites, c.ExpectSites, c.ExpectBody, c.URL})
	if err != nil {
		t.Fatal(err)
	}
	want := `[50,2000000000,3000000000,4000000000,5000000000,true,"/nonexistent/f",["192.0.2.1","192.0.2.2:54"],["fresh","ttl","pinned"],` +
		`[{"Name":"a","URL":"http://a"},{"Name":"b","URL":"http://b"}],["a","b"],"^ok$","http://shop"]`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestAllKinds: all are those that were not named before, which come first.
func TestAllKinds(t *testing.T) {
	o, err := parse(strings.Fields("--client ttl --client pinned,all http://shop"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(o.config.Clients); got != "[ttl pinned fresh keepalive browser jvm]" {
		t.Error(got)
	}
}

func TestMetAndText(t *testing.T) {
	s := newService(t, never, never, nil)
	code, stdout, stderr := rtotest("--duration", "200ms", "--max-rto", "1s", s.URL)
	if code != exitMet || !strings.Contains(stdout, "20 sent, 0 failed") || !strings.Contains(stdout, "downtime       none") {
		t.Errorf("exit %d\n%s", code, stdout)
	}
	if !strings.Contains(stderr, "fresh: first good answer") || strings.Contains(stderr, "\x1b") {
		t.Errorf("stderr %q: want a line per change, and no terminal's codes", stderr)
	}
}

// TestSignalMarksTheFault: SIGUSR1 comes before the failures, so the run
// counts; the service stays down, so the RTO is not met.
func TestSignalMarksTheFault(t *testing.T) {
	s := newService(t, 20, 10, signalSelf(t, syscall.SIGUSR1))
	code, stdout, stderr := rtotest("--json", "--duration", "500ms", "--max-rto", "1s", s.URL)
	r := decode(t, stdout)
	if code != exitExceeded || r.Void || r.Fault == nil || r.Recovered || r.Errors["status"] != r.Failed || r.Failed < 25 {
		t.Errorf("exit %d, fault %v, %s", code, r.Fault, stdout)
	}
	if !strings.Contains(stderr, "fault marked") || !strings.Contains(stderr, "failures start, status: answer: status 503") {
		t.Errorf("stderr %q", stderr)
	}
}

// TestFaultFile: failures before the file's time make the run void.
func TestFaultFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fault")
	s := newService(t, 10, never, nil)
	time.AfterFunc(250*time.Millisecond, func() {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Error(err)
		}
	})
	code, stdout, stderr := rtotest("--json", "--duration", "500ms", "--max-rto", "1s", "--fault-file", path, s.URL)
	r := decode(t, stdout)
	if code != exitVoid || !r.Void || !strings.Contains(r.VoidReason, "failed before the fault") {
		t.Errorf("exit %d, void %v %q", code, r.Void, r.VoidReason)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if r.Fault == nil || !r.Fault.Equal(info.ModTime()) {
		t.Errorf("fault at %v, the file is of %v", r.Fault, info.ModTime())
	}
	if !strings.Contains(stderr, "rtotest: void: ") {
		t.Errorf("stderr %q", stderr)
	}
}

// TestInterrupt: Ctrl-C ends the run, and it reports.
func TestInterrupt(t *testing.T) {
	s := newService(t, never, 20, signalSelf(t, syscall.SIGINT))
	code, stdout, _ := rtotest("--json", s.URL)
	if r := decode(t, stdout); code != exitMet || r.Sent < 20 || r.Sent > 500 || r.Failed != 0 {
		t.Errorf("exit %d, %s", code, stdout)
	}
}

// TestUnwritable: a report that cannot be written is an error, not silence.
func TestUnwritable(t *testing.T) {
	s := newService(t, never, never, nil)
	var stderr bytes.Buffer
	if code := run([]string{"--duration", "50ms", "--json", s.URL}, full{}, &stderr); code == 0 || !strings.Contains(stderr.String(), "write report") {
		t.Errorf("exit %d, stderr %q", code, stderr.String())
	}
}

// TestFiles: a file that cannot be written is told before all else, and one
// that fills up on the way costs only itself.
func TestFiles(t *testing.T) {
	s := newService(t, never, never, nil)
	for _, flag := range []string{"--csv", "--html"} {
		code, stdout, stderr := rtotest("--duration", "50ms", flag, "/nonexistent/file", s.URL)
		if code != exitUsage || stdout != "" || s.requests.Load() != 0 || !strings.Contains(stderr, "/nonexistent/file") {
			t.Errorf("%s: exit %d after %d requests\n%s\n%s", flag, code, s.requests.Load(), stdout, stderr)
		}
	}
	for flag, want := range map[string]string{"--csv": "write CSV: ", "--html": "write page: "} {
		code, stdout, stderr := rtotest("--duration", "50ms", flag, "/dev/full", s.URL)
		if code != exitUsage || !strings.Contains(stdout, "downtime       none") || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d\n%s\n%s", flag, code, stdout, stderr)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestTerminal: on a terminal a line of status stands below the changes, cut
// to its width.
func TestTerminal(t *testing.T) {
	var out bytes.Buffer
	d := newDisplay(&out)
	if d.width != nil {
		t.Fatal("a buffer is no terminal")
	}
	d.width = func() int { return 30 }
	e := measure.Event{Client: "fresh", Start: time.Unix(0, 0), Site: "primary", Sample: rto.Sample{Epoch: 1}}
	d.event(e)
	e.Err, e.Sample.Class, e.Sample.At = errors.New("x"), rto.Refused, time.Second
	d.event(e) // too soon to draw the status again
	d.line("12:00:00.000 fault marked")
	d.end()
	want := "00:00:00.000 fresh: first good answer from primary, epoch 1\n" +
		"\r\x1b[Kfresh: 1 sent, 0 failed, site" +
		"\r\x1b[K00:00:00.000 fresh: failures start, refused: x\n" +
		"12:00:00.000 fault marked\n" +
		"fresh: 2 sent, 1 failed, site primary, epoch 1, FAILING\n"
	if out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}
}
