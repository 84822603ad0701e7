package page

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/measure"
)

var (
	look   = flag.String("look", "", "write sample pages to `DIR`, to look at them")
	update = flag.Bool("update", false, "write the golden files anew")
)

func pageOf(t *testing.T, s *measure.Series) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPages: a page says what was found, needs nothing from elsewhere, and
// stays small; they are written out for people's eyes when it is told where to.
func TestPages(t *testing.T) {
	outside := regexp.MustCompile(`(?i)<(script|link|img|iframe|object|embed|audio|video|form)\b|@import|url\([^#)]`)
	for name, c := range map[string]struct {
		series *measure.Series
		most   int
		want   []string
	}{
		"one": {one(sample()), 60 << 10, []string{"Users were without service for 6.21 s", "not over", "propagate", "148.0 ms", "40 acknowledged writes",
			"refused 620", "all sent on after 6.20 s", "20 of 20 never sent on", "dr 203.0.113.10:53",
			"<small>expected loss</small><b>4.20 s</b>", "copy of primary's cloud, told by dr", "with at least 3 objects (40 MiB) missing"}},
		"few": {series(8), 300 << 10, []string{"8 runs: half of the time users had the service back within", "needs 299 runs", "void runs", "at worst, told by draasd of 8 runs", "--inject: exit code 255",
			"Run 6: down for 7.08 s (the longest)", "ssh primary systemctl poweroff"}},
		"many": {series(60), 900 << 10, []string{"runs not over", "not over", "24 of 60 runs are drawn"}},
		"none": {&measure.Series{Wanted: 3, Problem: "users are not served"}, 20 << 10, []string{"Nothing was measured", "users are not served"}},
	} {
		text := pageOf(t, c.series)
		plain := strings.ReplaceAll(html.UnescapeString(text), hard, " ")
		for _, want := range c.want {
			if !strings.Contains(plain, want) {
				t.Errorf("%s: no %q", name, want)
			}
		}
		if len(text) > c.most {
			t.Errorf("%s: %d bytes, at most %d", name, len(text), c.most)
		}
		without := strings.Replace(text, `<link rel="icon" href="data:,">`, "", 1)
		if found := outside.FindString(without); found != "" {
			t.Errorf("%s: %q", name, found)
		}
		if *look != "" {
			if err := os.WriteFile(filepath.Join(*look, name+".html"), []byte(text), 0o644); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestEdges: reports that have next to nothing in them are drawn too.
func TestEdges(t *testing.T) {
	bare := func(f func(r *measure.Report)) *measure.Series {
		r := sample()
		f(r)
		r.Outcome = *r.Clients[r.Client]
		return one(r)
	}
	for want, s := range map[string]*measure.Series{
		"Users did not notice": bare(func(r *measure.Report) {
			o := r.Clients[r.Client]
			o.Outages, o.FirstFailure, o.FirstGood, o.Downtime, o.Parts = nil, nil, nil, 0, nil
		}),
		"This run proves nothing: nothing was sent":    bare(func(r *measure.Report) { r.Void, r.VoidReason = true, "nothing was sent" }),
		"<small>expected loss</small><b>not known</b>": bare(func(r *measure.Report) { r.Daemon.Moves[0].Loss.Known = false; r.Join(r.Daemon) }),
		"it did not come back":                         bare(func(r *measure.Report) { r.Client = measure.Pinned }),
		"not known: read back: status 502":             bare(func(r *measure.Report) { r.Writes = &measure.Writes{Acked: 9, Unread: "read back: status 502"} }),
		"no member of the cluster has answered": bare(func(r *measure.Report) {
			r.Join(&measure.Daemon{Problem: "no member of the cluster has answered"})
		}),
		"Users were without": bare(func(r *measure.Report) {
			r.Window.To, r.Sites, r.Daemon, r.StaleFrom, r.Fault, r.Tool, r.Writes = r.Window.From, nil, nil, nil, nil, nil, nil
			for _, o := range r.Clients {
				o.Strip, o.Served, o.Stale = nil, nil, nil
			}
		}),
	} {
		text := strings.ReplaceAll(html.UnescapeString(pageOf(t, s)), hard, " ")
		if !strings.Contains(text, want) || strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
			t.Errorf("no %q, or numbers that are none", want)
		}
	}
}

// TestHostile: what servers, daemons and commands say stays text, wherever it
// stands.
func TestHostile(t *testing.T) {
	const bad = `"'><script>alert(1)</script><img src=x onerror=alert(1)></style></svg>{{.}}` + "\x00\x1b[2J\u202e"
	text := pageOf(t, hostile(bad))
	for _, raw := range []string{"<script", "<img", "onerror=alert(1)>", "</style></svg>", "\x00"} {
		if strings.Contains(text, raw) {
			t.Errorf("%q came through", raw)
		}
	}
	if n := strings.Count(text, "&lt;script&gt;alert(1)"); n < 12 {
		t.Errorf("it stands there as text %d times, want 12 and more", n)
	}
}

// hostile is a series in which every text is bad.
func hostile(bad string) *measure.Series {
	s := series(3)
	s.Problem = bad
	s.Tool = &measure.Tool{Version: bad, Go: bad, Command: []string{bad}}
	for _, r := range s.Runs {
		r.URL, r.VoidReason = bad, bad
		r.Void = r.Number == 2
		r.Inject.Command, r.Inject.Output, r.Inject.Problem = bad, bad, bad
		r.Restore.Output = bad
		r.Writes.Known, r.Writes.Unread = false, bad
		d := r.Daemon
		d.Problem = bad
		d.Members[0].Member, d.Members[1].Problem = "x", bad
		d.Moves[0].Kind, d.Moves[0].Evidence, d.Moves[0].Operator = bad, bad, bad
		d.Moves[0].Turns[0].Name = bad
		d.Moves[0].Loss.From, d.Moves[0].Loss.By, d.Moves[0].Loss.Text = draas.SiteID(bad), draas.MemberID(bad), bad
		d.Moves[0].Steps[0].Name, d.Moves[0].Steps[0].Evidence = bad, bad
		for _, o := range r.Clients {
			for i := range o.Strip {
				if o.Strip[i].Site != "" {
					o.Strip[i].Site = "dr"
				}
			}
			for i := range o.Parts {
				o.Parts[i].Name = bad
			}
		}
	}
	return s
}

// TestGeometry: what is drawn where, to the tenth of a pixel.
func TestGeometry(t *testing.T) {
	var b strings.Builder
	show := func(d drawing) {
		fmt.Fprintf(&b, "%s %sx%s: %s\n%s\n", d.ID, d.W, d.H, d.Title, d.Desc)
		for _, s := range d.Shapes {
			switch {
			case s.Text != "":
				fmt.Fprintf(&b, "  text %s %s %s: %s\n", s.Class, s.X, s.Y, s.Text)
			case s.D != "":
				fmt.Fprintf(&b, "  path %s %s\n", s.Class, s.D)
			default:
				fmt.Fprintf(&b, "  rect %s %s %s %s %s: %s\n", s.Class, s.X, s.Y, s.W, s.H, s.Title)
			}
		}
	}
	r := newRun(sample())
	for _, w := range []float64{wide, narrow} {
		show(r.timeline("timeline", w))
		d, ok := r.stale("stale", w)
		if !ok {
			t.Error("no tail is drawn")
		}
		show(d)
	}
	d, ok := spread("spread", wide, series(25))
	if !ok {
		t.Error("no spread is drawn")
	}
	show(d)
	got := strings.ReplaceAll(b.String(), hard, " ")
	path := filepath.Join("testdata", "geometry.txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("drawn otherwise than %s says; -update writes it anew:\n%s", path, firstDifference(got, string(want)))
	}
	inside(t, b.String())
}

// TestLoss: what is told of an expected loss, in tiles and tables.
func TestLoss(t *testing.T) {
	var b strings.Builder
	for _, s := range []*measure.Series{one(sample()), series(2)} {
		tile, ok := lossTile(s)
		fmt.Fprintf(&b, "%v %q\n", ok, tile)
		for _, t := range []table{newRun(s.Runs[0]).lossTable(), runTable(s)} {
			fmt.Fprintf(&b, "%s\n%q\n", t.Caption, t.Head)
			for _, row := range t.Rows {
				fmt.Fprintf(&b, "%q\n", row)
			}
		}
	}
	got := strings.ReplaceAll(b.String(), `\u00a0`, " ")
	path := filepath.Join("testdata", "loss.txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || got != string(want) {
		t.Errorf("told otherwise than %s says (%v); -update writes it anew:\n%s", path, err, got)
	}
	r := sample()
	r.Daemon.Moves[0].Loss = nil
	r.Join(r.Daemon)
	if _, ok := lossTile(one(r)); ok || len(newRun(r).lossTable().Rows) > 0 {
		t.Error("a loss that nobody told of")
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return "got  " + x[i] + "\nwant " + y[i]
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(x), len(y))
}

// inside checks that no rectangle leaves its picture.
func inside(t *testing.T, text string) {
	t.Helper()
	var width, height float64
	for line := range strings.Lines(text) {
		var x, y, w, h float64
		var class string
		if f := strings.Fields(line); len(f) > 1 && strings.HasSuffix(f[1], ":") && strings.Contains(f[1], "x") {
			if _, err := fmt.Sscanf(f[1], "%fx%f:", &width, &height); err == nil {
				continue
			}
		}
		rect, ok := strings.CutPrefix(line, "  rect ")
		if !ok {
			continue
		}
		numbers := regexp.MustCompile(`^(\S+(?: p\d)?) (\S+) (\S+) (\S+) (\S+):`).FindStringSubmatch(rect)
		if numbers == nil {
			t.Fatalf("cannot read %q", line)
		}
		if _, err := fmt.Sscan(strings.Join(numbers[2:], " "), &x, &y, &w, &h); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if class = numbers[1]; x < 0 || y < 0 || x+w > width+0.1 || y+h > height {
			t.Errorf("%s leaves its picture of %v x %v: %s", class, width, height, line)
		}
	}
}

// TestChromium: a real browser draws the page, with hostile texts in it, finds
// nothing to complain of, asks nobody for anything, and has every picture once
// for its width.
func TestChromium(t *testing.T) {
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: install the Debian package chromium (etc/setup/test-packages)", err)
	}
	text := pageOf(t, hostile(`"'><script>console.error("run")</script><img src=/stolen>`))
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.Path)
		mu.Unlock()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, text)
	}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
		"--disable-dev-shm-usage", "--user-data-dir="+t.TempDir(), "--enable-logging=stderr", "--window-size=390,800", "--dump-dom", server.URL+"/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var dom, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &dom, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	for line := range strings.Lines(said.String()) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("the browser complains: %s", line)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(asked, []string{"/"}) {
		t.Errorf("asked for %q", asked)
	}
	for piece, n := range map[string]int{"<h1>": 1, `<svg class="wide"`: 7, `<svg class="narrow"`: 7, "<details": 3, `class="bracket"`: 36, "<script": 0} {
		if got := strings.Count(dom.String(), piece); got != n {
			t.Errorf("%d of %s, want %d", got, piece, n)
		}
	}
}
