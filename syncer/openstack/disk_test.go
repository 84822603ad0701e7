package openstack

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// childOf says which clouds this process is to carry in a test's place: the
// folder of their clouds.yaml.
const childOf = "DRAAS_TEST_CLOUDS"

// runWithoutSpace makes a run whose records have no room.
func runWithoutSpace(folder string) error {
	var sides []*Side
	for _, name := range []string{"east", "west"} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		c, err := cloud.Parse(cloud.Source{Name: name, AllowPlain: true}, text, nil)
		if err != nil {
			return err
		}
		session, err := cloud.Open(context.Background(), c, cloud.Options{})
		if err != nil {
			return err
		}
		defer session.Close()
		sides = append(sides, New(session, Options{Site: name}))
	}
	store, err := syncer.OpenStore(filepath.Join(folder, "sync.db"))
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 128 << 10, Max: 128 << 10}); err != nil {
		return err
	}
	e, err := syncer.New(syncer.Config{Source: sides[0], Target: sides[1], Store: store})
	if err != nil {
		return err
	}
	_, err = e.Run(context.Background(), syncer.Options{})
	return errors.Join(err, store.Close())
}

// The disk of the records is full: nothing is done that could not be written
// down.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, fakecloud.Options{}, fakecloud.Options{})
	folder := filepath.Dir(d.path)
	for _, s := range []site{d.east, d.west} {
		if err := os.WriteFile(filepath.Join(folder, s.Site()), []byte(s.fake.YAML(s.Site())), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.west.all(t, SecurityGroup, syncer.Key{}) // Neutron makes our project's own when it is first asked
	before := d.west.fake.Dump(nil)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childOf+"="+folder)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "nothing was done") || !strings.Contains(string(out), syscall.EFBIG.Error()) {
		t.Errorf("%v: %s", err, out)
	}
	if after := d.west.fake.Dump(nil); !slices.Equal(before, after) {
		t.Error("something was done")
	}
	d.right()
}
