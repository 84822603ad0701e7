package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// build makes the program, the flags being those of go build.
func build(t *testing.T, flags ...string) (draasd string) {
	t.Helper()
	draasd = filepath.Join(t.TempDir(), "draasd")
	args := append([]string{"build", "-buildvcs=false", "-o", draasd}, flags...)
	if out, err := exec.Command("go", append(args, "../../cmd/draasd")...).CombinedOutput(); err != nil {
		t.Fatalf("build draasd: %v: %s", err, out)
	}
	return draasd
}

// instead is the flag of go build that puts a mistake into a source file.
func instead(t *testing.T, file, right, wrong string) (flag string) {
	t.Helper()
	path, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(source, []byte(right)); n != 1 {
		t.Fatalf("%s has %q %d times: the mistake needs another place", file, right, n)
	}
	dir := t.TempDir()
	mistaken, overlay := filepath.Join(dir, filepath.Base(path)), filepath.Join(dir, "overlay.json")
	data, err := json.Marshal(map[string]map[string]string{"Replace": {path: mistaken}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{mistaken: bytes.Replace(source, []byte(right), []byte(wrong), 1), overlay: data} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "-overlay=" + overlay
}

// controlOf runs the control by itself, with real processes.
func controlOf(t *testing.T, dir, draasd string) (res Result, said string) {
	t.Helper()
	var out bytes.Buffer
	res, err := Run(context.Background(), Options{Seed: 1, Every: 40 * time.Millisecond, Draasd: draasd, Dir: dir, Out: &out})
	if err != nil || res.Rounds != 0 || res.Interrupted {
		t.Fatalf("the control came to %v\n%v, %s", res, err, &out)
	}
	return res, out.String()
}

// Without a fence two sites are seen to serve, and of the services that have
// one nothing is wrong.
func TestControl(t *testing.T) {
	t.Parallel()
	needRoot(t)
	tmp := t.TempDir()
	res, said := controlOf(t, tmp, build(t))
	if len(res.Violations) > 0 || res.Control <= 0 {
		t.Errorf("the control came to %v\n%s", res, said)
	}
	for _, s := range fenced {
		if res.Dual[s] != 0 || res.Answers[s] == 0 {
			t.Errorf("%s: two sites for %v, in %d answers", s, res.Dual[s], res.Answers[s])
		}
	}
	if left, err := filepath.Glob(filepath.Join(tmp, "draas-soak-*")); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

// Fences that are told to close too late are found out, of every kind, by what
// users see.
func TestControlFindsLateFences(t *testing.T) {
	t.Parallel()
	needRoot(t)
	late := instead(t, "../../daemon/guardlink.go", "Epoch: x.Epoch, Deadline: x.Deadline}",
		"Epoch: x.Epoch, Deadline: draas.Deadline{Boot: x.Deadline.Boot + 10*time.Second, Wall: x.Deadline.Wall + 10*time.Second}}")
	res, said := controlOf(t, t.TempDir(), build(t, late))
	for _, s := range fenced {
		if res.Dual[s] == 0 || !slices.ContainsFunc(res.Violations, func(v string) bool { return strings.HasPrefix(v, s+": two sites served") }) {
			t.Errorf("%s: nothing is wrong with it: %v\n%s", s, res, said)
		}
	}
	if res.Dir == "" {
		t.Error("nothing is kept to look at")
	}
}
