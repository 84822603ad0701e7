package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/draasd/draas/daemon"
)

func runRTO(t *testing.T, args ...string) (code int, stdout, stderr []byte) {
	t.Helper()
	var out, err bytes.Buffer
	p := &program{stdout: &out, stderr: &err, server: server{load: daemon.Load}}
	code = p.run(t.Context(), append([]string{"rto", "-c", "../../etc/failover.toml"}, args...))
	return code, out.Bytes(), err.Bytes()
}

func TestRTO(t *testing.T) {
	code, out, _ := runRTO(t)
	if code != exitOK {
		t.Errorf("exits with %d", code)
	}
	golden(t, "rto", out)
}

// The terms add up, and are those that check promises by.
func TestRTOInJSON(t *testing.T) {
	code, out, _ := runRTO(t, "--json", "shop")
	var units []downtime
	if err := json.Unmarshal(out, &units); err != nil || code != exitOK {
		t.Fatalf("exits with %d: %v\n%s", code, err, out)
	}
	if len(units) != 1 || units[0].Service != "shop" || units[0].MaxRTO != 20_000 || len(units[0].Disasters) != 3 {
		t.Fatalf("%+v", units)
	}
	for _, d := range units[0].Disasters {
		var worst, typical float64
		for _, x := range d.Terms {
			worst, typical = worst+x.Worst, typical+x.Typical
		}
		if worst != d.Worst || typical != d.Typical || worst < typical || worst <= 0 {
			t.Errorf("%s: terms of %v and %v, in all %v and %v", d.Name, worst, typical, d.Worst, d.Typical)
		}
	}
}

func TestRTOOfNobody(t *testing.T) {
	code, _, stderr := runRTO(t, "shpo")
	if code == exitOK || !strings.Contains(string(stderr), `no service "shpo"`) {
		t.Errorf("exits with %d: %s", code, stderr)
	}
	p := &program{stdout: io.Discard, stderr: io.Discard, server: server{load: daemon.Load}}
	if code := p.run(t.Context(), []string{"rto", "-c", "no-such-file"}); code == exitOK {
		t.Error("a file that is not there is no error")
	}
}
