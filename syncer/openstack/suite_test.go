package openstack

import (
	"slices"
	"testing"

	"github.com/draasd/draas/config"
	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer/syncertest"
)

// Every kind does what the engine relies on, at the cloud in memory.
func TestSuite(t *testing.T) {
	syncertest.Suite(t, func(t *testing.T) syncertest.Subject {
		s := newSite(t, "west", fakecloud.Options{})
		return syncertest.Subject{Writer: s, Samples: samples(newGround(t, s, 1))}
	})
}

// The file knows the kinds that there are.
func TestKindsOfTheFile(t *testing.T) {
	s := newSite(t, "west", fakecloud.Options{})
	var kinds []string
	for _, h := range s.order {
		kinds = append(kinds, string(h.traits().Kind))
	}
	known := config.SyncKinds()
	slices.Sort(kinds)
	slices.Sort(known)
	if !slices.Equal(kinds, known) {
		t.Errorf("the kinds are %q\nand the file knows %q", kinds, known)
	}
}
