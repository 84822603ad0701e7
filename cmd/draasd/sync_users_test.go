package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer/openstack"
)

// What was copied is shown, let in and kept out again, where somebody says that
// the site is the active one.
func TestSyncUsers(t *testing.T) {
	c := newTwoClouds(t)
	c.primary.Hand().Make("user", fakecloud.Fields{"name": "alice", "domain_id": "default"})
	if code, out, errs := c.sync(t, append([]string{"run", "--yes", "--kind", "domain,user"}, fromTo...)...); code != exitOK {
		t.Fatalf("run exits with %d: %s%s", code, out, errs)
	}
	says := func(want string, args ...string) {
		t.Helper()
		code, out, errs := c.sync(t, append([]string{"users"}, args...)...)
		if code != exitOK || !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("users %v exits with %d, and does not say %q: %s%s", args, code, want, out, errs)
		}
	}
	says("Default/alice waits until its site is active", "--to", "dr")
	says("enabled 1 of the 1 users", "enable", "--to", "dr", "--yes")
	says("enabled 0 of the 1 users", "enable", "--to", "dr", "--yes")
	says("Default/alice enabled", "--to", "dr")
	says("disabled 1 of the 1 users", "disable", "--to", "dr", "--yes")
	says("No user at primary was made by draas", "--to", "primary")
	code, out, errs := c.sync(t, "users", "--to", "dr", "--json")
	var all []openstack.Copy
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != exitOK || len(all) != 1 || !all[0].Waits {
		t.Errorf("exits with %d, %v: %s%s", code, err, out, errs)
	}
	if code, _, errs := c.sync(t, "users", "enable", "--to", "dr"); code == exitOK || !strings.Contains(errs, "--yes") {
		t.Errorf("enabled by nobody's word: %d, %s", code, errs)
	}
	if code, _, errs := c.sync(t, "users", "enabel", "--to", "dr"); code != exitUsage || !strings.Contains(errs, "enable") {
		t.Errorf("a typing error exits with %d: %s", code, errs)
	}
}

// What draasd sync can do stands in its help.
func TestSyncVerbsAreTold(t *testing.T) {
	c := find((&program{}).commands(), "sync")
	for _, v := range syncVerbs() {
		if !strings.Contains("|"+strings.Fields(c.args)[0]+"|", "|"+v.name+"|") || !strings.Contains(c.long, "\n"+v.name+" ") {
			t.Errorf("the help has no %s", v.name)
		}
	}
}
