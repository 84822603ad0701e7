package frontend

import (
	"bytes"
	"strings"
	"testing"
)

func TestCrew(t *testing.T) {
	c := newCrew(t.TempDir())
	p, err := c.start("shell", "sh", "-c", `echo up; sleep 60 & trap "kill $!; exit" TERM; wait`)
	if err != nil {
		t.Fatal(err)
	}
	if err := until(t.Context(), "the child's child is there", func() bool { return len(p.ids()) == 2 }); err != nil {
		t.Error(err)
	}
	if n, err := p.resident(); err != nil || n < 100 {
		t.Errorf("memory %d KiB, %v", n, err)
	}
	if _, err := p.cpu(); err != nil {
		t.Error(err)
	}
	if next, err := c.again(p); err != nil || next == p {
		t.Errorf("started anew: %v", err)
	}
	if _, err := p.cpu(); err == nil {
		t.Error("processor time of one that has ended")
	}
	var logs bytes.Buffer
	c.showLogs(&logs)
	if strings.Count(logs.String(), "last lines of shell") != 1 {
		t.Errorf("logs: %s", &logs)
	}
	if _, err := c.start("nothing", "/nonexistent"); err == nil {
		t.Error("started what is not there")
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
}
