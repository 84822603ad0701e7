package web

import (
	"os/exec"
	"strings"
	"testing"
)

// slowhttptest, which others wrote: its clients are all let go of in time, and
// there is room for others meanwhile.
func TestSlowHTTPTest(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *Config) {
		c.Limits = Limits{Head: second, Idle: second, Stall: second, Drain: second}
	})
	for name, args := range map[string]string{
		"slow headers": "-H -i 1 -x 10",
		"slow bodies":  "-B -i 1 -s 8192 -t POST",
		"many ranges":  "-R -a 5 -b 1000",
	} {
		t.Run(name, func(t *testing.T) {
			args := append(strings.Fields(args), "-c", "100", "-r", "200", "-l", "20", "-p", "2", "-u", "http://"+l.addr+"/")
			out, err := exec.Command("slowhttptest", args...).CombinedOutput()
			text := string(out)
			last := text[max(0, strings.LastIndex(text, "slow HTTP test status")):]
			if err != nil || !strings.Contains(last, "No open connections left") || !strings.Contains(last, "YES") {
				t.Errorf("%v\n%s", err, last)
			}
		})
	}
	if n := l.svc.Stats.Site("primary").Requests.Load(); n == 0 {
		t.Error("nothing was served meanwhile")
	}
}
