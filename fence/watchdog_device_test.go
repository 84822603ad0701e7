package fence

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	draas "github.com/draasd/draas"
)

// What can be shown of the device without one: it is not opened, which would
// arm it, before it is known that it can be stopped; and a file that is no
// watchdog is refused, after the magic close.
func TestHardwareWatchdog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "watchdog")
	w := NewHardwareWatchdog(path)
	w.sys = filepath.Join(dir, "class")
	nowayout := filepath.Join(w.sys, "watchdog0", "nowayout")
	check := func(want string) {
		t.Helper()
		err := w.Check()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check("no such file")
	write(path, "")
	check("cannot tell whether it can be stopped")
	write(nowayout, "1\n")
	check("cannot be stopped")
	write(nowayout, "0\n")
	check("")
	if b, err := os.ReadFile(path); err != nil || len(b) > 0 {
		t.Fatalf("the check wrote %q, %v", b, err)
	}
	if err := w.Pet(); err == nil {
		t.Error("petted what is not armed")
	}
	if err := w.Arm(10 * time.Second); err == nil || !strings.Contains(err.Error(), "inappropriate ioctl") {
		t.Errorf("armed a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "V" || w.file != nil {
		t.Errorf("after the refusal: %q, %v, open %v", b, err, w.file != nil)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := w.Disarm(); err == nil {
		t.Error("disarmed what is not there")
	}
}

// What a fence is to the watchdog.
func TestExposure(t *testing.T) {
	now := draas.Reading{Boot: time.Hour, Wall: 1000 * time.Hour}
	ahead, passed := draas.DeadlineAt(now, time.Second), draas.DeadlineAt(now, -time.Second)
	for name, c := range map[string]struct {
		k    *keeper
		want exposure
	}{
		"never closed since the start":       {&keeper{until: passed}, exposedNot},
		"observed closed":                    {&keeper{ready: true, shut: true, until: passed}, exposedNot},
		"open, looked at":                    {&keeper{ready: true, until: ahead, looked: now.Boot - time.Second}, exposedInTime},
		"open, nobody looks":                 {&keeper{ready: true, until: ahead, looked: now.Boot - 2*time.Second}, exposedLate},
		"closing before its deadline":        {&keeper{ready: true, until: ahead, phase: phaseClosing}, exposedInTime},
		"closing at its deadline":            {&keeper{ready: true, until: passed, phase: phaseClosing, looked: now.Boot}, exposedLate},
		"open and there never was a permit":  {&keeper{ready: true, looked: now.Boot}, exposedLate},
		"open, its deadline passed unlooked": {&keeper{ready: true, until: passed, looked: now.Boot}, exposedLate},
	} {
		if got := c.k.exposure(now, 1500*time.Millisecond); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
