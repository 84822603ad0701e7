package quorum_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
)

func osDisk(t testing.TB) *quorum.OSDisk {
	t.Helper()
	d, err := quorum.OpenOSDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// What Disk promises holds for the real one and for the one of the tests.
func TestDiskContract(t *testing.T) {
	for name, disk := range map[string]quorum.Disk{"os": osDisk(t), "memory": quorumtest.NewDisk()} {
		t.Run(name, func(t *testing.T) {
			ok := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			list := func(want ...string) {
				t.Helper()
				got, err := disk.List()
				ok(err)
				if !slices.Equal(got, want) {
					t.Fatalf("files are %q, want %q", got, want)
				}
			}
			content := func(name, want string) {
				t.Helper()
				got, err := disk.ReadFile(name)
				ok(err)
				if string(got) != want {
					t.Fatalf("%s holds %q, want %q", name, got, want)
				}
			}
			list()
			if _, err := disk.ReadFile("a"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("read of no file: %v", err)
			}
			if err := disk.Remove("a"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("removal of no file: %v", err)
			}
			if err := disk.Rename("a", "b"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("rename of no file: %v", err)
			}
			f, err := disk.Create("b")
			ok(err)
			for _, s := range []string{"one ", "two"} {
				n, err := f.Write([]byte(s))
				if n != len(s) {
					t.Fatalf("wrote %d of %q", n, s)
				}
				ok(err)
			}
			ok(f.Sync())
			content("b", "one two")
			ok(disk.Rename("b", "a"))
			_, err = f.Write([]byte(" three")) // the file goes with its new name
			ok(err)
			ok(f.Sync())
			ok(f.Close())
			if err := f.Sync(); err == nil {
				t.Fatal("synced a closed file")
			}
			ok(disk.SyncDir())
			list("a")
			content("a", "one two three")
			f, err = disk.Create("b")
			ok(err)
			ok(f.Close())
			list("a", "b")
			ok(disk.Rename("b", "a")) // over another
			list("a")
			content("a", "")
			ok(disk.Remove("a"))
			list()
		})
	}
}

func TestOSDiskIsLocked(t *testing.T) {
	dir := t.TempDir()
	first, err := quorum.OpenOSDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = quorum.OpenOSDisk(dir)
	if !errors.Is(err, quorum.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("second opening: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := quorum.OpenOSDisk(dir)
	if err != nil {
		t.Fatalf("opening after the first was closed: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOSDiskNeedsDirectory(t *testing.T) {
	dir := t.TempDir()
	if _, err := quorum.OpenOSDisk(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := quorum.OpenOSDisk(file); err == nil {
		t.Error("opened a file as a directory")
	}
}

func TestLogOnOSDisk(t *testing.T) {
	states := oracle(t)
	disk := osDisk(t)
	if err := quorum.Bootstrap(disk, testMeta); err != nil {
		t.Fatal(err)
	}
	if _, _, err := play(disk); err != nil {
		t.Fatal(err)
	}
	if im := reopen(t, disk); !same(*im, states[len(states)-1]) || im.Torn {
		t.Errorf("log on a real disk holds %+v", im)
	}
	names, err := disk.List()
	if err != nil || len(names) != 3 {
		t.Errorf("files left: %q, %v", names, err)
	}
}
