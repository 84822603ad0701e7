package frontend

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// answered is what a load tool counted.
type answered struct {
	requests int
	seconds  float64
}

var (
	wrkLine   = regexp.MustCompile(`(?m)^\s*(\d+) requests in ([0-9.]+)(us|ms|s|m|h),`)
	wrkErrors = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
	wrkStatus = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)

	h2Finished = regexp.MustCompile(`(?m)^finished in ([0-9.]+)(us|ms|s), `)
	h2Requests = regexp.MustCompile(`(?m)^requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
)

// parseWrk reads what wrk prints. Answers that are not what was asked for, or
// none at all, are an error: a proxy that refuses is quick.
func parseWrk(text string) (answered, error) {
	m := wrkLine.FindStringSubmatch(text)
	if m == nil {
		return answered{}, errors.New("wrk says no number of requests")
	}
	if e := wrkErrors.FindString(text); e != "" {
		return answered{}, fmt.Errorf("wrk: %s", e)
	}
	if e := wrkStatus.FindString(text); e != "" {
		return answered{}, fmt.Errorf("wrk: %s", e)
	}
	return counted(m[1], m[2]+m[3])
}

// parseH2load reads what h2load prints.
func parseH2load(text string) (answered, error) {
	took, m := h2Finished.FindStringSubmatch(text), h2Requests.FindStringSubmatch(text)
	if took == nil || m == nil {
		return answered{}, errors.New("h2load says no number of requests")
	}
	for _, bad := range m[5:] {
		if bad != "0" {
			return answered{}, fmt.Errorf("h2load: %s", m[0])
		}
	}
	if !strings.Contains(text, "Application protocol: h2") {
		return answered{}, errors.New("h2load did not get HTTP/2")
	}
	return counted(m[4], took[1]+took[2])
}

func counted(requests, took string) (answered, error) {
	n, err := strconv.Atoi(requests)
	if err != nil {
		return answered{}, fmt.Errorf("read number of requests: %w", err)
	}
	d, err := time.ParseDuration(took)
	if err != nil {
		return answered{}, fmt.Errorf("read time: %w", err)
	}
	if n == 0 || d <= 0 {
		return answered{}, errors.New("nothing was answered")
	}
	return answered{n, d.Seconds()}, nil
}

// tool runs a load tool.
func tool(ctx context.Context, parse func(string) (answered, error), argv []string) (answered, error) {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return answered{}, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	a, err := parse(string(out))
	if err != nil {
		return answered{}, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return a, nil
}
