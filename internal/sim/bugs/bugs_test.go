package bugs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root, module = "../../..", "github.com/draasd/draas"

// Each bug of issue 3 is here, under a name that can be typed.
func TestNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, b := range All() {
		if seen[b.Name] {
			t.Errorf("two bugs are named %s", b.Name)
		}
		seen[b.Name] = true
		if strings.Trim(b.Name, "abcdefghijklmnopqrstuvwxyz-") != "" || b.Breaks == "" || len(b.Rules) == 0 || len(b.Edits) == 0 {
			t.Errorf("bug %q is not complete", b.Name)
		}
		if got, err := Find(b.Name); err != nil || got.Breaks != b.Breaks {
			t.Errorf("bug %q is not found by its name: %v", b.Name, err)
		}
	}
	if len(seen) < 16 {
		t.Errorf("only %d bugs", len(seen))
	}
	if _, err := Find("none"); err == nil || !strings.Contains(err.Error(), All()[0].Name) {
		t.Errorf("an unknown bug gives %v, without the names there are", err)
	}
}

// Every edit applies to the product as it is, patches product code only, and
// gives code that compiles.
func TestEditsApplyAndCompile(t *testing.T) {
	c := newChecker(t)
	for _, b := range All() {
		t.Run(b.Name, func(t *testing.T) {
			files, err := Files(root, b.Edits)
			if err != nil {
				t.Fatal(err)
			}
			for name := range files {
				if strings.HasPrefix(name, "internal/") || strings.HasSuffix(name, "_test.go") {
					t.Errorf("%s is no product code", name)
				}
			}
			if err := c.check(files); err != nil {
				t.Error(err)
			}
		})
	}
}

// The check of the edits is one that fails.
func TestWrongEditsAreRefused(t *testing.T) {
	for name, e := range map[string]Edit{
		"text that is not there": {File: "clock.go", Old: "nowhere to be seen", New: "x"},
		"text that is not once":  {File: "clock.go", Old: "return ", New: "x"},
		"edit of nothing":        {File: "clock.go", Old: "package draas", New: "package draas"},
		"no text":                {File: "clock.go", New: "x"},
		"no such file":           {File: "nowhere.go", Old: "x", New: "y"},
	} {
		if _, err := Files(root, []Edit{e}); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := WriteOverlay(root, t.TempDir(), []Edit{e}); err == nil {
			t.Errorf("%s: an overlay is written", name)
		}
	}
	c := newChecker(t)
	for name, e := range map[string]Edit{
		"syntax":     {File: "clock.go", Old: "package draas", New: "package draas; func"},
		"type":       {File: "clock.go", Old: "return now.Boot >= d.Boot || now.Wall >= d.Wall", New: "return 1"},
		"unused":     {File: "clock.go", Old: "return now.Boot >= d.Boot || now.Wall >= d.Wall", New: "x := 1; return false"},
		"no import":  {File: "clock.go", Old: `import "time"`, New: ""},
		"not needed": {File: "failover/record.go", Old: "\nimport (\n", New: "\nimport (\n\t\"net/mail\"\n"},
	} {
		files, err := Files(root, []Edit{e})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if c.check(files) == nil {
			t.Errorf("%s: it is said to compile", name)
		}
	}
}

func TestOverlay(t *testing.T) {
	dir := t.TempDir()
	edits := []Edit{
		{File: "clock.go", Old: "package draas", New: "package  draas"},
		{File: "clock.go", Old: "package  draas", New: "package   draas"},
		{File: "fence/ledger.go", Old: "package fence", New: "package  fence"},
	}
	name, err := WriteOverlay(root, dir, edits)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var overlay struct{ Replace map[string]string }
	if err := json.Unmarshal(data, &overlay); err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"clock.go": "package   draas", "fence/ledger.go": "package  fence"}
	if len(overlay.Replace) != len(want) {
		t.Errorf("overlay replaces %v", overlay.Replace)
	}
	for file, text := range want {
		got, err := os.ReadFile(overlay.Replace[filepath.Join(abs, file)])
		if err != nil || !strings.Contains(string(got), text) {
			t.Errorf("overlay of %s has no %q (%v)", file, text, err)
		}
	}
}

// checker type-checks edited packages and those that import them, against what
// the compiler has left of the others: the same errors as a build's, without
// the time that building takes.
type checker struct {
	packages []*pkg // of the module, imported ones first
	fset     *token.FileSet
	compiled types.Importer
}

type pkg struct {
	ImportPath string
	Dir        string
	Export     string
	GoFiles    []string
	Imports    []string
}

func newChecker(t *testing.T) *checker {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Imports", "./internal/sim/cmd/sim")
	cmd.Dir = root
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &errOut)
	}
	c := &checker{fset: token.NewFileSet()}
	exports := make(map[string]string)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if p.ImportPath == module || strings.HasPrefix(p.ImportPath, module+"/") {
			c.packages = append(c.packages, p)
		}
	}
	c.compiled = importer.ForCompiler(c.fset, "gc", func(path string) (io.ReadCloser, error) {
		name, ok := exports[path]
		if !ok {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(name)
	})
	return c
}

// check type-checks the packages of the files. When there are several, those in
// between are checked too: each has to see the edited ones. What an edit of one
// package does to others, which is seldom anything, the hunt's build tells.
func (c *checker) check(files map[string][]byte) error {
	done := make(map[string]*types.Package)
	left := make(map[string]bool)
	for name := range files {
		left[path.Join(module, path.Dir(name))] = true
	}
	several := len(left) > 1
	for _, p := range c.packages {
		patched := left[p.ImportPath]
		delete(left, p.ImportPath)
		between := several && slices.ContainsFunc(p.Imports, func(i string) bool { return done[i] != nil })
		if !patched && !between {
			continue
		}
		parsed, err := c.parse(p, files)
		if err != nil {
			return err
		}
		conf := types.Config{Importer: mixed{done, c.compiled}}
		typed, err := conf.Check(p.ImportPath, c.fset, parsed, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", p.ImportPath, err)
		}
		done[p.ImportPath] = typed
	}
	if len(left) > 0 {
		return fmt.Errorf("the simulator does not run %v", slices.Sorted(maps.Keys(left)))
	}
	return nil
}

func (c *checker) parse(p *pkg, files map[string][]byte) ([]*ast.File, error) {
	var out []*ast.File
	for _, name := range p.GoFiles {
		var src any // nil: what is on the disk
		if text, ok := files[path.Join(strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/"), name)]; ok {
			src = text
		}
		f, err := parser.ParseFile(c.fset, filepath.Join(p.Dir, name), src, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// Of several edited packages each sees the others as they are edited, and what
// is in between does.
func TestSeveralPackagesAreCheckedTogether(t *testing.T) {
	c := newChecker(t)
	rename := Edit{File: "clock.go", Old: "func (d Deadline) Passed(now Reading) bool", New: "func (d Deadline) Gone(now Reading) bool"}
	other := Edit{File: "quorum/log_codec.go", Old: "package quorum", New: "package  quorum"}
	files, err := Files(root, []Edit{rename, other})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.check(files); err == nil || !strings.Contains(err.Error(), "Passed") {
		t.Errorf("a method that failover needs is gone: %v", err)
	}
}

// mixed takes edited packages from here, others from the compiler.
type mixed struct {
	done     map[string]*types.Package
	compiled types.Importer
}

func (m mixed) Import(name string) (*types.Package, error) {
	if p := m.done[name]; p != nil {
		return p, nil
	}
	return m.compiled.Import(name)
}
