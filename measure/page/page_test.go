package page

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/draasd/draas/measure"
)

var look = flag.String("look", "", "write sample pages to `DIR`, to look at them")

// TestLook writes pages for people's eyes when it is told where to.
func TestLook(t *testing.T) {
	for name, s := range map[string]*measure.Series{"one": one(sample()), "few": series(8), "many": series(60)} {
		dir := *look
		if dir == "" {
			dir = t.TempDir()
		}
		f, err := os.Create(filepath.Join(dir, name+".html"))
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(f, s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
