package draas_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)

// Every fuzz target stands in docs/fuzz.md, beside its package, and has inputs
// that are kept; and nothing is kept for a target that is not there any more.
func TestFuzzTargets(t *testing.T) {
	page, err := os.ReadFile("docs/fuzz.md")
	if err != nil {
		t.Fatal(err)
	}
	targets, kept := make(map[string]bool), make(map[string]bool)
	err = fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path.Base(path.Dir(name)) == "fuzz" {
			kept[path.Join(path.Dir(path.Dir(path.Dir(name))), path.Base(name))] = true
		}
		if d.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(filepath.FromSlash(name))
		for _, m := range fuzzTarget.FindAllStringSubmatch(string(source), -1) {
			targets[path.Join(path.Dir(name), m[1])] = true
		}
		return err
	})
	if err != nil || len(targets) == 0 {
		t.Fatalf("%d targets, %v", len(targets), err)
	}
	for name := range targets {
		dir, target := path.Split(name)
		if !kept[name] {
			t.Errorf("%s has no inputs under testdata/fuzz/%s", name, target)
		}
		listed := false
		for line := range strings.Lines(string(page)) {
			listed = listed || strings.Contains(line, "`"+target+"`") && strings.Contains(line, path.Base(dir)+" `Fuzz")
		}
		if !listed {
			t.Errorf("docs/fuzz.md does not list %s", name)
		}
	}
	for name := range kept {
		if !targets[name] {
			t.Errorf("inputs are kept for %s, which is no target", name)
		}
	}
}
