package measure

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("written otherwise than %s says (-update writes it anew):\n%s", path, got)
	}
}

// lossy is a run that has cost so much.
func lossy(l *Loss) *Report {
	m := move("dr", true, "suspected", 1.1, "failed", 1.2, "decided", 1.5, "activated", 3.5, "redirected", 3.6, "verified", 9.0)
	m.Loss = l
	r := down(0, 6.2, false)
	r.Join(&Daemon{Cluster: "acme", Service: "shop", Moves: []Move{m}})
	return r
}

func told() *Loss {
	return &Loss{From: "primary", Known: true, Behind: Millis(4200 * time.Millisecond), Objects: 3, Bytes: 40 << 20, By: "dr",
		Text: "the copy of primary's cloud was 4.2s behind, with at least 3 objects (40 MiB) missing"}
}

// What a move has cost of the copy stands beside the downtime, with who says so.
func TestLoss(t *testing.T) {
	r := lossy(told())
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "loss.txt", text.Bytes())
	if r.Clients[TTL].Loss != nil || r.Clients[Fresh].Loss == nil || r.Loss != r.Clients[Fresh].Loss {
		t.Errorf("a client that was never down: %+v", r.Clients[TTL].Loss)
	}
	out, err := json.MarshalIndent(map[string]any{"expected_loss": r.Loss, "move": r.Daemon.Moves[0]}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "loss.json", append(out, '\n'))
	data, err := json.Marshal(r)
	var back Report
	if err != nil || json.Unmarshal(data, &back) != nil || back.Loss == nil || *back.Loss != *r.Loss {
		t.Errorf("read back: %+v, %v", back.Loss, err)
	}
	r.Join(&Daemon{Service: "shop"})
	if r.Loss != nil {
		t.Error("a loss of no move")
	}
}

// Of a series the worst is told, and of how many runs nothing is known.
func TestLossOfSeries(t *testing.T) {
	less := told()
	less.Behind, less.Objects, less.Bytes, less.Text = Millis(900*time.Millisecond), 0, 0, "the copy of primary's cloud was 900ms behind"
	runs := []*Report{lossy(less), lossy(told()), lossy(nil), lossy(&Loss{From: "primary", By: "dr", Text: "how far the copy of primary's cloud was behind is not known"})}
	for i, r := range runs {
		r.Number = i + 1
	}
	s := &Series{Wanted: 4, Runs: runs, Summary: Sum(runs)}
	if m := s.Summary; m.Told != 3 || m.ToldUnknown != 1 || m.WorstTold != told().Behind {
		t.Errorf("%+v", m)
	}
	var text bytes.Buffer
	if err := s.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "losses.txt", text.Bytes())
	s = &Series{Wanted: 1, Runs: runs[3:], Summary: Sum(runs[3:])}
	text.Reset()
	if err := s.WriteText(&text); err != nil || !strings.Contains(text.String(), "\nexpected loss: told of 1 runs; not known of 1\n") {
		t.Errorf("of a run of which it is not known (%v):\n%s", err, text.String())
	}
}
