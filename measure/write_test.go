package measure

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab"
)

// workload is a service of two sites that keeps what it is sent. The second
// gets a copy of what the first has acknowledged, and the copy is behind by a
// known time: an asynchronous replication.
type workload struct {
	lag time.Duration

	mu    sync.Mutex
	run   string
	rows  []uint64
	when  []time.Time // that a row was acknowledged
	ended time.Time   // when the first site was lost
}

// first is where users write until it is lost.
func (w *workload) first(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	run, number, _ := strings.Cut(strings.TrimSpace(string(body)), " ")
	n, bad := strconv.ParseUint(number, 10, 64)
	switch {
	case !w.ended.IsZero():
		http.Error(rw, "lost", http.StatusServiceUnavailable)
	case err != nil || bad != nil || r.Method != http.MethodPost:
		http.Error(rw, "not a row", http.StatusBadRequest)
	default:
		w.run, w.rows, w.when = run, append(w.rows, n), append(w.when, time.Now())
		rw.WriteHeader(http.StatusNoContent)
	}
}

// kept is what the copy held when the first site was lost.
func (w *workload) kept() []uint64 {
	n, _ := slices.BinarySearchFunc(w.when, w.ended.Add(-w.lag), time.Time.Compare)
	return w.rows[:n]
}

// second gives back what the copy holds.
func (w *workload) second(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	tellStored(rw, r.URL.Query().Get("run"), w.kept())
}

func tellStored(w io.Writer, run string, rows []uint64) {
	fmt.Fprintf(w, "run %s\n", run)
	for _, n := range rows {
		fmt.Fprintln(w, n)
	}
	fmt.Fprintf(w, "end %d\n", len(rows))
}

func (w *workload) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = time.Now()
}

// TestKnownLoss: what a site takes with it is found to the row, and its time
// is the lag of the copy, but for a period of the writer and the machine's
// own stalls, which the server's clock shows.
func TestKnownLoss(t *testing.T) {
	w := &workload{lag: 300 * time.Millisecond}
	first, second := newSite(t, "127.0.0.2", w.first), newSite(t, "127.0.0.3", w.second)
	var r *Report
	late := lab.Late(func() {
		r = must(t, t.Context(), Config{URL: second.url(), Rate: 20, Duration: 1200 * time.Millisecond, Observe: after(800*time.Millisecond, w.lose),
			Write: &WriteConfig{URL: first.url(), ReadURL: second.url() + "?db=shop", Rate: 100}})
	})
	got := r.Writes
	kept, all := len(w.kept()), len(w.rows)
	if all == kept || kept == 0 {
		t.Fatalf("%d of %d rows kept: no experiment", kept, all)
	}
	if !got.Known || got.Acked != all || got.Stored != kept || got.Lost != all-kept || got.Sent <= all || got.Unacked+got.Duplicates+got.Disordered+got.Foreign != 0 {
		t.Errorf("%+v; %d rows, %d kept", got, all, kept)
	}
	if !slices.Equal(got.LostNumbers, w.rows[kept:]) {
		t.Errorf("lost %v, want %v", got.LostNumbers, w.rows[kept:])
	}
	known := w.when[all-1].Sub(w.when[kept-1])
	// Either end may come to the server as much later as the machine stalled.
	if off := (time.Duration(got.RPO) - known).Abs(); off > 30*time.Millisecond+2*late {
		t.Errorf("RPO %v, by the server's clock %v; the machine let nobody run for %v", got.RPO, known, late)
	}
	if least := time.Duration(got.AtLeast); least > w.lag+20*time.Millisecond+2*late || least > time.Duration(got.RPO) {
		t.Errorf("at least %v of a lag of %v, RPO %v", least, w.lag, got.RPO)
	}
	if got.To.Sub(*got.From) != time.Duration(got.RPO) {
		t.Errorf("from %v to %v is not %v", got.From, got.To, got.RPO)
	}
	zero, much := time.Duration(0), 10*time.Second
	if err := r.CheckLoss(&zero); !errors.Is(err, ErrExceeded) || r.CheckLoss(&much) != nil || r.CheckLoss(nil) != nil {
		t.Errorf("judged as %v, %v", err, r.CheckLoss(&much))
	}
	if !strings.Contains(got.InWords(), fmt.Sprintf("%d of %d acknowledged writes lost, RPO 0.", all-kept, all)) {
		t.Errorf("%q", got.InWords())
	}
}

// TestUnknownLoss: what cannot be read back is not none.
func TestUnknownLoss(t *testing.T) {
	good := newSite(t, "127.0.0.2", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for want, h := range map[string]http.HandlerFunc{
		"status 502":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"status 302":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"does not begin": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>welcome\x1b[2J") },
		"has no end": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "run %s\n1\n2\n", r.URL.Query().Get("run"))
		},
	} {
		bad := newSite(t, "127.0.0.3", h)
		r := must(t, t.Context(), Config{URL: good.url(), Rate: 20, Duration: 100 * time.Millisecond,
			Write: &WriteConfig{URL: good.url(), ReadURL: bad.url(), ReadFor: 100 * time.Millisecond}})
		zero := time.Duration(0)
		if w := r.Writes; w.Known || w.Acked == 0 || !strings.Contains(w.Unread, want) || strings.ContainsRune(w.InWords(), '\x1b') || !strings.Contains(w.InWords(), "NOT KNOWN") {
			t.Errorf("%s: %+v", want, w)
		}
		if err := r.CheckLoss(&zero); !errors.Is(err, ErrVoid) {
			t.Errorf("%s: judged as %v", want, err)
		}
		if s := Sum([]*Report{r}); s.LossUnknown != 1 || s.LossKnown != 0 {
			t.Errorf("%s: %+v", want, s)
		}
	}
}

// TestReadAgain: reading back goes on until the time for it is over.
func TestReadAgain(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	s := newSite(t, "127.0.0.2", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.Method == http.MethodPost:
		case asked == 0:
			asked++
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			tellStored(w, r.URL.Query().Get("run"), []uint64{2, 1, 1, 77})
		}
	})
	r := must(t, t.Context(), Config{URL: s.url(), Rate: 20, Duration: 75 * time.Millisecond, Write: &WriteConfig{URL: s.url()}})
	if w := r.Writes; !w.Known || w.Stored != 2 || w.Duplicates != 1 || w.Disordered != 1 || w.Foreign != 1 || w.Acked != 2 || w.Lost != 0 {
		t.Errorf("%+v", w)
	}
}

func TestWriteConfig(t *testing.T) {
	_, err := Config{URL: "http://a", Write: &WriteConfig{URL: "ftp://a", Rate: 5000}}.complete()
	if err == nil || !strings.Contains(err.Error(), "ftp") || !strings.Contains(err.Error(), "write rate 5000") {
		t.Errorf("%v", err)
	}
}

// FuzzStored: what is read back is what a plain reading finds, or an error;
// nothing that lacks its head or its end passes.
func FuzzStored(f *testing.F) {
	for _, s := range []string{"run a1\n1\n2\nend 2\n", "run a1\nend 0", "run a1\n1\n", "run b\nend 0\n", "", "run a1\n-1\nend 1", "run a1\nend 0\nmore",
		"run a1\r\n1\r\nend 1\r\n", "run a1\n18446744073709551616\nend 1", "<html>", "run a1\n1\nend 2\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseStored(bytes.NewReader(data), "a1")
		lines := strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
		if lines[len(lines)-1] == "" {
			lines = lines[:len(lines)-1]
		}
		if err != nil {
			if len(got) > 0 {
				t.Fatalf("%d numbers and %v", len(got), err)
			}
			return
		}
		if len(lines) != len(got)+2 || lines[0] != "run a1" || !strings.HasPrefix(lines[len(lines)-1], "end ") {
			t.Fatalf("%q was taken for %v", data, got)
		}
		if n, err := strconv.ParseUint(lines[len(lines)-1][len("end "):], 10, 64); err != nil || n != uint64(len(got)) {
			t.Fatalf("%q was taken for %v", data, got)
		}
		for i, n := range got {
			if m, err := strconv.ParseUint(lines[i+1], 10, 64); err != nil || m != n {
				t.Fatalf("line %d of %q became %d", i+1, data, n)
			}
		}
	})
}
