package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
)

// with writes more into [sync], which the file ends in.
func (c twoClouds) with(t *testing.T, keys string) {
	t.Helper()
	f, err := os.OpenFile(c.file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(keys)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The sizes of segments that the file has are those that are made.
func TestSyncSegments(t *testing.T) {
	c := newTwoClouds(t)
	c.with(t, "kinds = [\"domain\", \"project\", \"container\", \"object\"]\nsegment_above = \"2MiB\"\nsegment_size = \"1MiB\"\n")
	hand := c.primary.Hand().In(c.primary.Hand().Make("project", fakecloud.Fields{"name": "acme"}))
	hand.Object("docs", "large", fakecloud.Generated(7, 5<<19), nil)
	hand.Object("docs", "small", fakecloud.Generated(8, 3<<19), nil)
	if code, out, errs := c.sync(t, append([]string{"run", "--yes"}, fromTo...)...); code != exitOK {
		t.Fatalf("run exits with %d: %s%s", code, out, errs)
	}
	var parts, others int
	for _, line := range c.dr.Dump(nil) {
		switch {
		case !strings.HasPrefix(line, "object "):
		case strings.Contains(line, `"container":"docs_draas_segments"`):
			parts++
		default:
			others++
		}
	}
	if parts != 3 || others != 2 {
		t.Errorf("%d parts and %d others: %v", parts, others, c.dr.Dump(nil))
	}
}

// clouds replaces the credentials; empty: there is no file.
func (c twoClouds) clouds(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(filepath.Dir(c.file), "clouds.yaml")
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if text == "" {
		return
	}
	if err := os.WriteFile(path, []byte("clouds:\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// flagsOf are those that find the daemon at a socket.
func flagsOf(t *testing.T, socket string) clientFlags {
	t.Helper()
	flags := flag.NewFlagSet("sync", flag.ContinueOnError)
	f := bindClient(flags)
	if err := flags.Parse([]string{"--socket", socket}); err != nil {
		t.Fatal(err)
	}
	return f
}

// projects in [sync] are names, or ids.
func TestSyncOfSomeProjects(t *testing.T) {
	c := newTwoClouds(t)
	for _, name := range []string{"acme", "other"} {
		project := c.primary.Hand().Make("project", fakecloud.Fields{"name": name})
		c.primary.Hand().Make("network", fakecloud.Fields{"name": "of-" + name, "project_id": project})
	}
	c.with(t, "projects = [\"acme\"]\n")
	if code, out, errs := c.sync(t, append([]string{"run", "--yes"}, fromTo...)...); code != exitOK {
		t.Fatalf("run exits with %d: %s%s", code, out, errs)
	}
	if _, out, _ := c.sync(t, "map", "network"); !strings.Contains(out, "of-acme") || strings.Contains(out, "of-other") {
		t.Errorf("of the projects' networks these were carried:\n%s", out)
	}
}
