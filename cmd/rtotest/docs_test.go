package main

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/draasd/draas/measure"
)

// TestDocs: docs/rtotest.md has every flag, kind of client and column, and no
// flag that is not there.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../../docs/rtotest.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	f := flag.NewFlagSet("rtotest", flag.ContinueOnError)
	o := &options{}
	o.bindClients(f)
	o.bindDaemon(f)
	o.bindRuns(f)
	known := make(map[string]bool)
	f.VisitAll(func(g *flag.Flag) {
		known[g.Name] = true
		dashes := "--"
		if len(g.Name) == 1 {
			dashes = "-"
		}
		if !strings.Contains(page, "`"+dashes+g.Name+" ") && !strings.Contains(page, "`"+dashes+g.Name+"`") {
			t.Errorf("the page does not have %s%s", dashes, g.Name)
		}
	})
	for line := range strings.Lines(page) {
		name, row := strings.CutPrefix(line, "| `--")
		if name, _, _ = strings.Cut(name, "`"); row && !known[strings.Fields(name)[0]] {
			t.Errorf("the page has --%s, the program has not", name)
		}
	}
	for _, k := range measure.Kinds() {
		if !strings.Contains(page, "| `"+string(k)+"` |") {
			t.Errorf("the page does not have the kind %s", k)
		}
	}
	for _, c := range append(probeColumns(), runColumns()...) {
		if !strings.Contains(page, "`"+c+"`") {
			t.Errorf("the page does not have the column %s", c)
		}
	}
}
