//go:build openstack

package openstack

import (
	"context"
	"os"
	"testing"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/internal/lab/openstack"
	"github.com/draasd/draas/syncer/syncertest"
)

// realSite is one of those that internal/lab/openstack/cmd/sites has started.
func realSite(t *testing.T, name string) site {
	t.Helper()
	file := os.Getenv("OS_CLIENT_CONFIG_FILE")
	if file == "" {
		t.Fatal("there are no sites: make test-openstack starts them")
	}
	c, err := cloud.Read(cloud.Source{File: file, Name: name, AllowPlain: true})
	if err != nil {
		t.Fatal(err)
	}
	session, err := cloud.Open(t.Context(), c, cloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Close)
	return site{Side: New(session, Options{Site: name})}
}

// Every kind does at real services what the engine relies on. There is one login,
// and what samples only refer to is made once: both cost a real Keystone, and
// everybody who asks it, most of the time that there is.
func TestSuiteOnRealServices(t *testing.T) {
	s, seq := realSite(t, "west"), 0
	shared := newGround(t, s, seq)
	syncertest.Suite(t, func(t *testing.T) syncertest.Subject {
		seq++
		g := newGround(t, s, seq)
		g.domain, g.project, g.other, g.opened = shared.domain, shared.project, shared.other, shared.opened
		g.role, g.users, g.projects = shared.role, shared.users, shared.projects
		return syncertest.Subject{Writer: s, Samples: samples(g)}
	})
}

// A whole life of a replication between two real clouds.
func TestStoryOnRealServices(t *testing.T) {
	story(t, realSite(t, "east"), realSite(t, "west"))
}

// Keystone's database ends in the middle of a run, and comes back.
func TestKeystoneOutageOnRealServices(t *testing.T) {
	outages(t, realSite(t, "east"), realSite(t, "west"), func(t *testing.T, s site) {
		if err := openstack.Hold(t.Context(), s.Site(), openstack.KeystoneDatabase); err != nil {
			t.Fatal(err)
		}
	}, func(t *testing.T, s site) {
		if err := openstack.Release(context.WithoutCancel(t.Context()), s.Site(), openstack.KeystoneDatabase); err != nil {
			t.Error(err)
		}
	})
}
