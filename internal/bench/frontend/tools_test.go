package frontend

import (
	"math"
	"strings"
	"testing"
	"time"
)

const (
	wrkText = `Running 1s test @ http://127.66.4.1:8080/
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.09ms    1.12ms   7.84ms   68.68%
    Req/Sec     1.27k   240.81     1.69k    63.64%
  1392 requests in 1.10s, 674.40KB read
Requests/sec:   1265.90
Transfer/sec:    613.31KB
`
	h2Text = `starting benchmark...
Application protocol: h2
finished in 2.00s, 10147.00 req/s, 1.01MB/s
requests: 20374 total, 20374 started, 20294 done, 20294 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 20294 2xx, 0 3xx, 0 4xx, 0 5xx
`
)

func TestTools(t *testing.T) {
	for _, c := range []struct {
		name     string
		parse    func(string) (answered, error)
		text     string
		requests int
		seconds  float64
		err      string
	}{
		{"wrk", parseWrk, wrkText, 1392, 1.1, ""},
		{"wrk, minutes", parseWrk, strings.Replace(wrkText, "1.10s", "1.50m", 1), 1392, 90, ""},
		{"wrk, bad answers", parseWrk, wrkText + "  Non-2xx or 3xx responses: 1969\n", 0, 0, "1969"},
		{"wrk, lost connections", parseWrk, wrkText + "  Socket errors: connect 0, read 3, write 0, timeout 0\n", 0, 0, "read 3"},
		{"wrk, nothing answered", parseWrk, strings.Replace(wrkText, "1392 requests", "0 requests", 1), 0, 0, "nothing"},
		{"wrk, silent", parseWrk, "unable to connect", 0, 0, "no number"},
		{"h2load", parseH2load, h2Text, 20294, 2, ""},
		{"h2load, failed", parseH2load, strings.Replace(h2Text, "0 failed", "5 failed", 1), 0, 0, "5 failed"},
		{"h2load, timed out", parseH2load, strings.Replace(h2Text, "0 timeout", "1 timeout", 1), 0, 0, "1 timeout"},
		{"h2load, no HTTP/2", parseH2load, strings.Replace(h2Text, "protocol: h2", "protocol: http/1.1", 1), 0, 0, "HTTP/2"},
		{"h2load, silent", parseH2load, "", 0, 0, "no number"},
	} {
		a, err := c.parse(c.text)
		switch {
		case c.err == "" && (err != nil || a.requests != c.requests || math.Abs(a.seconds-c.seconds) > 1e-9):
			t.Errorf("%s: %+v, %v, want %d in %v s", c.name, a, err, c.requests, c.seconds)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.err)
		}
	}
}

func TestParseProc(t *testing.T) {
	const stat = "17 (a) b (c)) S 1 17 17 0 -1 4194560 100 0 0 0 250 75 0 0 20 0 9 0 100 0 0"
	if d, err := parseStat(stat); err != nil || d != 3250*time.Millisecond {
		t.Errorf("processor time %v, %v, want 3.25 s", d, err)
	}
	for _, bad := range []string{"", "17 (a)", "17 (a) S 1 17 17 0 -1 4194560 100 0 0 0 x 75 0", "17 (a) S 1 17 17 0 -1 4194560 100 0 0 0 1 x 0"} {
		if d, err := parseStat(bad); err == nil {
			t.Errorf("processor time %v of %q", d, bad)
		}
	}
	if n, err := parseResident("Name:\tnginx\nVmHWM:\t  900 kB\nVmRSS:\t    15628 kB\n"); err != nil || n != 15628 {
		t.Errorf("memory %d, %v, want 15628", n, err)
	}
	if n, err := parseResident("Name:\tnginx\n"); err == nil {
		t.Errorf("memory %d of a process without any", n)
	}
}
