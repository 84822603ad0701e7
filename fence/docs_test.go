package fence_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each cell of the table in docs/safety.md names a test that is there, or says
// that it was only simulated.
func TestSafetyTable(t *testing.T) {
	t.Parallel()
	files := must[[]string](t)(filepath.Glob("*_test.go"))
	var code strings.Builder
	for _, f := range files {
		code.Write(must[[]byte](t)(os.ReadFile(f)))
	}
	doc := string(must[[]byte](t)(os.ReadFile("../docs/safety.md")))
	_, doc, _ = strings.Cut(doc, "| | daemon killed |")
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	rows := 0
	for line := range strings.Lines(doc) {
		if !strings.HasPrefix(line, "|") && rows > 0 {
			break
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		kind := strings.TrimSpace(cells[0])
		if len(cells) != 9 || kind == "none" || strings.HasPrefix(kind, "---") {
			continue
		}
		rows++
		for _, c := range cells[1:] {
			tests := named.FindAllStringSubmatch(c, -1)
			if len(tests) == 0 && !strings.Contains(c, "simulated only") {
				t.Errorf("%s: %q names no test", kind, c)
			}
			for _, name := range tests {
				if !strings.Contains(code.String(), "func "+name[1]+"(") {
					t.Errorf("%s: there is no %s", kind, name[1])
				}
			}
		}
	}
	if rows != 7 {
		t.Errorf("%d kinds of fence in the table", rows)
	}
}
