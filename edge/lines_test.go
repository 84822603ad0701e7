package edge

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/draasd/draas/config"
	"github.com/draasd/draas/schemes/frontend/stream"
	"github.com/draasd/draas/schemes/frontend/web"
)

// A line for every request costs a frontend one part in fifteen of its
// processor time: where nobody reads them none are made.
func TestNoLinesWithoutLog(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, path := range []string{"", filepath.Join(t.TempDir(), "access.log")} {
		l, err := openLines(path, log)
		if err != nil {
			t.Fatal(err)
		}
		e := &Edge{log: log, lines: l}
		var w web.Config
		var s stream.Config
		e.planWeb(&w, &config.Service{}, nil)
		e.planStream(&s, &config.Service{}, nil)
		if logged := path != ""; (w.AccessLog != nil) != logged || (s.AccessLog != nil) != logged {
			t.Errorf("access log at %q: lines are made of requests %v, of connections %v", path, w.AccessLog != nil, s.AccessLog != nil)
		}
		if err := l.close(); err != nil {
			t.Error(err)
		}
	}
	// What only checks a file has no log.
	var w web.Config
	(&Edge{log: log}).planWeb(&w, &config.Service{}, nil)
	if w.AccessLog != nil {
		t.Error("lines are made by who serves nobody")
	}
}
