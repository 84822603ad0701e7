package metrics

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const rulesFile = "../../etc/prometheus/draas.yml"

// The alerts that people begin with ask for metrics and labels that there are,
// and fire when they should.
func TestRules(t *testing.T) {
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]family)
	for _, f := range table() {
		known[f.full()] = f
	}
	used := regexp.MustCompile(`(draas_[a-z_]+)(?:\{([a-z]+)[=!])?`).FindAllStringSubmatch(string(text), -1)
	if len(used) < 15 {
		t.Fatalf("%d metrics are asked for", len(used))
	}
	for _, u := range used {
		f, has := known[u[1]]
		if !has {
			t.Errorf("an alert asks for %s, which there is not", u[1])
		}
		if u[2] != "" && !strings.Contains(strings.Join(f.labels, " "), u[2]) {
			t.Errorf("an alert asks for the label %s of %s", u[2], u[1])
		}
	}
	dir := t.TempDir()
	tests, err := os.ReadFile("testdata/rules_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"draas.yml": text, "test.yml": tests} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"check", "rules", filepath.Join(dir, "draas.yml")}, {"test", "rules", filepath.Join(dir, "test.yml")}} {
		if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", args[0], err, out)
		}
	}
}
