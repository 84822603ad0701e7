package fence

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
