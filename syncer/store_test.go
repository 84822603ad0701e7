package syncer_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/draasd/draas/syncer"
)

// childOf says what this process is to do in a test's place.
const childOf = "SYNCER_TEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childOf); what != "" {
		os.Exit(child(what, os.Args[len(os.Args)-1]))
	}
	goleak.VerifyTestMain(m)
}

func child(what, path string) int {
	var err error
	switch what {
	case "write":
		err = writeForever(path)
	case "full":
		err = runWithoutSpace(path)
	}
	if err != nil {
		fmt.Println("child:", err)
		return 1
	}
	return 0
}

// writeForever tells of each record that is durable.
func writeForever(path string) error {
	s, err := syncer.OpenStore(path)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		r := syncer.Record{Key: key{Kind: "thing", ID: fmt.Sprintf("%06d", i)}, Target: strings.Repeat("t", i%200)}
		if err := s.Put(r); err != nil {
			return err
		}
		fmt.Println("wrote", i)
	}
}

func startChild(t *testing.T, what, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), childOf+"="+what)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// What was said to be written is there after kill -9.
func TestKilledWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sync.db")
	cmd, lines := startChild(t, "write", path)
	for i := range 60 {
		if !lines.Scan() || lines.Text() != fmt.Sprint("wrote ", i) {
			t.Fatalf("line %d: %q, %v", i, lines.Text(), lines.Err())
		}
	}
	if _, err := syncer.OpenStore(path); !errors.Is(err, syncer.ErrStoreBusy) || !strings.Contains(err.Error(), path) {
		t.Errorf("open beside another process: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // what it had said before it died
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it ended by itself")
	}
	s, err := syncer.OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := 0
	err = s.Each("thing", func(r syncer.Record) error {
		if want := fmt.Sprintf("%06d", n); r.Key.ID != want || len(r.Target) != n%200 {
			return fmt.Errorf("record %d is %+v", n, r)
		}
		n++
		return nil
	})
	if err != nil || n < 60 {
		t.Errorf("%d records, %v", n, err)
	}
}

// runWithoutSpace makes a first run on a disk that is nearly full.
func runWithoutSpace(path string) error {
	l := newLabAt(&testing.T{}, filepath.Dir(path))
	for i := range 400 {
		if _, err := l.source.Put(object{Key: key{Kind: "project", ID: fmt.Sprint(i)}, Fields: fields{"name": fmt.Sprint(i)}}, nil); err != nil {
			return err
		}
	}
	var err error
	if l.config.Store, err = syncer.OpenStore(path); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 256 << 10, Max: 256 << 10}); err != nil {
		return err
	}
	e, err := syncer.New(l.config)
	if err != nil {
		return err
	}
	_, err = e.Run(context.Background(), syncer.Options{})
	fmt.Printf("%d creates: %v\n", l.target.Ops()["create"], err)
	return nil
}

// A full disk stops a run before its first effect, not between an effect and
// its record.
func TestFullDiskStopsBeforeAnyEffect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sync.db")
	cmd, lines := startChild(t, "full", path)
	lines.Scan()
	if !strings.HasPrefix(lines.Text(), "0 creates: run: nothing was done: write store "+path) {
		t.Errorf("%q", lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	l := newLabAt(t, filepath.Dir(path)) // and the store is whole
	l.seed()
	l.clean(syncer.Options{})
	l.same()
}

func TestStoreThatCannotGrow(t *testing.T) {
	l := newLab(t)
	l.seed()
	s, err := syncer.OpenStoreLimited(l.path, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	l.store = s
	_, err = l.engine().Run(context.Background(), syncer.Options{})
	if err == nil || l.target.Ops()["create"] > 0 {
		t.Errorf("%d creates, %v", l.target.Ops()["create"], err)
	}
	l.close()
	l.clean(syncer.Options{})
	l.same()
}

func TestStoreKeepsRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sync.db")
	s, err := syncer.OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	whole := syncer.Record{
		Key: key{Kind: "thing", ID: "a"}, Target: "t", Name: "n", Intent: true, Created: true,
		SourceHash: "1", SourceRevision: "2", TargetHash: "3", TargetRevision: "4", Bound: "5",
		Needs: []key{{Kind: "net", ID: "n"}}, Natural: "6", Renamed: true,
		Content: syncer.Content{Size: 7, Sum: "md5:x"}, Landed: syncer.Content{Size: 8, Sum: "sha:x"}, Applied: noon,
		Missed: 2, Gone: noon, Error: "e", Attempts: 3, Next: noon,
	}
	odd := []string{"\x00", "\x00\x00", "\x01", "\x01\x01", "a\x00b", "a\x01b", "a", "ä", "~", "a/b"}
	within := func(holder, id string) syncer.Record {
		return syncer.Record{Key: key{Kind: "obj", ID: holder + "|" + id}, Within: key{Kind: "box", ID: holder}, Target: id}
	}
	if err := s.Put(whole); err != nil {
		t.Fatal(err)
	}
	for _, holder := range odd {
		for _, id := range odd {
			if err := s.Put(within(holder, id)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = syncer.OpenStore(path); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, ok, err := s.Record(whole.Key)
	if !ok || err != nil || !reflect.DeepEqual(got, whole) {
		t.Errorf("%+v\n%+v, %v", got, whole, err)
	}
	if _, ok, err := s.Record(key{Kind: "thing", ID: "b"}); ok || err != nil {
		t.Errorf("%t, %v", ok, err)
	}
	holders, err := s.Holders("obj")
	if err != nil || len(holders) != len(odd) {
		t.Errorf("holders %q, %v", holders, err)
	}
	for _, holder := range holders {
		n := 0
		err := s.EachWithin("obj", holder, func(r syncer.Record) error {
			if n++; r.Within.ID != holder || r.Key.ID != holder+"|"+r.Target {
				t.Errorf("within %q is %+v", holder, r)
			}
			return nil
		})
		if err != nil || n != len(odd) {
			t.Errorf("%d within %q, %v", n, holder, err)
		}
	}
	kinds, err := s.Kinds()
	if err != nil || !reflect.DeepEqual(kinds, []syncer.Kind{"obj", "thing"}) {
		t.Errorf("kinds %q, %v", kinds, err)
	}
	// A record that moves to another holder leaves the one it had.
	moved := within("a", "ä")
	moved.Within.ID = "~"
	if err := s.Put(moved); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(nil, []key{within("a", "~").Key}); err != nil {
		t.Fatal(err)
	}
	for holder, want := range map[string]int{"a": len(odd) - 2, "~": len(odd) + 1} {
		n := 0
		if err := s.EachWithin("obj", holder, func(syncer.Record) error { n++; return nil }); err != nil || n != want {
			t.Errorf("%d within %q, not %d: %v", n, holder, want, err)
		}
	}
	all := 0
	if err := s.Map(func(syncer.Record) error { all++; return nil }); err != nil || all != len(odd)*len(odd) {
		t.Errorf("%d records, %v", all, err)
	}
}

func TestStoreRefusesWhatItWouldChange(t *testing.T) {
	s := newLab(t).open()
	for _, r := range []syncer.Record{
		{}, {Key: key{Kind: "k"}}, {Key: key{ID: "i"}}, {Key: key{Kind: "k", ID: "\xff"}},
		{Key: key{Kind: "k", ID: "i"}, Target: "\xff"}, {Key: key{Kind: "k", ID: "i"}, Within: key{Kind: "w", ID: "\xff"}},
	} {
		if err := s.Put(r); err == nil {
			t.Errorf("%+q was taken", r.Key)
		}
	}
}

func TestStoreOfALaterVersion(t *testing.T) {
	l := newLab(t)
	if err := syncer.SetFormat(l.open(), 99); err != nil {
		t.Fatal(err)
	}
	l.close()
	if _, err := syncer.OpenStore(l.path); err == nil || !strings.Contains(err.Error(), "format 99, of a later version") {
		t.Errorf("%v", err)
	}
}

func TestStoreIsOfOnePair(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.clean(syncer.Options{})
	l.source.Name = "three"
	if _, err := l.engine().Run(context.Background(), syncer.Options{}); err == nil || !strings.Contains(err.Error(), "one to two, and this is three to two") {
		t.Errorf("%v", err)
	}
}

// Workers that write at the same time share what is synced.
func TestParallelWrites(t *testing.T) {
	s := newLab(t).open()
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 20 {
				r := syncer.Record{Key: key{Kind: "thing", ID: fmt.Sprint(w, "-", i)}}
				if err := s.Put(r); err != nil {
					t.Error(err)
				}
				if _, ok, err := s.Record(r.Key); !ok || err != nil {
					t.Errorf("%s is not there: %v", r.Key, err)
				}
			}
		})
	}
	wg.Wait()
}
