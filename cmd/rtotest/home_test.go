package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNotBroughtHome: a disaster that would not meet the users where the first
// one did is not made: its downtime would say nothing.
func TestNotBroughtHome(t *testing.T) {
	t.Parallel()
	d := newDisaster(t)
	moved := filepath.Join(t.TempDir(), "moved")
	d.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		site := "primary"
		if exists(moved) {
			site = "dr"
		}
		w.Header().Set("Draas-Site", site)
		if exists(d.file) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	args := func(restore string) []string {
		return []string{"--settle", "150ms", "--duration", "1s", "--timeout", "300ms", "--runs", "2",
			"--inject", fmt.Sprintf("touch %s %s; sleep 0.1; rm %s", d.file, moved, d.file), "--restore", restore, d.URL}
	}
	code, stdout, stderr := rtotest(args("true")...) // a series that is not whole is void without a limit too
	if want := "ENDED EARLY: before run 2: users are not served at primary, as they were before, but at dr, after 1s"; code != exitVoid || !strings.Contains(stdout, want) {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	if err := os.Remove(moved); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = rtotest(args("rm " + moved)...)
	if code != exitMet || !strings.Contains(stdout, "2 of 2 runs: 2 recovered") {

		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
}
