package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func try(args ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-columns", "("}, {"-runs", "x"}, {"-nonsense"}} {
		if code, _, said := try(args...); code != 2 || said == "" {
			t.Errorf("%q ends with %d and says %q", args, code, said)
		}
	}
	for _, args := range [][]string{{"clients"}, {"clients", "{"}, {"counter", "-lag", "x"}} {
		if code, _, said := try(args...); code != 1 || !strings.HasPrefix(said, "matrix "+args[0]+": ") {
			t.Errorf("%q ends with %d and says %q", args, code, said)
		}
	}
}

// What was made before is shown, and what was wrong with it is told, also when
// nothing is left to be made.
func TestShowsWhatWasMade(t *testing.T) {
	dir := t.TempDir()
	results, table, page := filepath.Join(dir, "r.jsonl"), filepath.Join(dir, "t.md"), filepath.Join(dir, "p.html")
	line := `{"column":"dns","cell":"service killed","at":"2026-11-21T20:00:00Z","kinds":{"fresh":{"recovered":true}},"faults":["two sites served for 3 ms"]}` + "\n"
	marks := "<!-- matrix: written by make matrix from here -->\n<!-- matrix: to here -->\n"
	for file, text := range map[string]string{results: line, table: marks} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, _, said := try("-columns", "^none$", "-results", results, "-table", table, "-page", page)
	if code != 1 || !strings.Contains(said, "dns, service killed, 2026-11-21 20:00:00: two sites served for 3 ms") {
		t.Errorf("ends with %d and says %q", code, said)
	}
	for file, want := range map[string]string{table: "### Service killed", page: "service killed"} {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, %q", file, err, text)
		}
	}
	if code, _, said := try("-columns", "^none$", "-results", results, "-table", results); code != 1 || !strings.Contains(said, "place of the tables") {
		t.Errorf("ends with %d and says %q", code, said)
	}
}
