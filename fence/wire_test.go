package fence

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	draas "github.com/draasd/draas"
)

func FuzzDecodeRequest(f *testing.F) {
	for _, s := range []string{
		`{"op":"status"}`,
		`{"op":"extend","service":"shop","epoch":3,"deadline":{"boot":1,"wall":2}}`,
		`{"op":"close","service":"shop","epoch":18446744073709551615}`,
		`{"op":"close"}`, `{"op":"status"} {}`, `{"op":1}`, `[]`, `null`, "", "\x00\xff",
		`{"op":"extend_all","extend":[{"service":"a","epoch":3,"deadline":{"boot":1,"wall":2}},{"service":"b","epoch":1,"deadline":{}}]}`,
		`{"op":"extend_all","extend":[]}`, `{"op":"extend_all","extend":[{"service":"a"},{"service":"a"}]}`,
		`{"op":"extend","service":"a","epoch":-1}`, `{"op":"status","force":true}`,
		strings.Repeat("[", 70000),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		req, err := decodeRequest(line)
		if err != nil {
			if !errors.Is(err, ErrBadRequest) {
				t.Fatalf("an error that the peer cannot tell: %v", err)
			}
			return
		}
		out, err := encodeLine(req, 10*maxRequest)
		if err != nil {
			t.Fatalf("accepted what cannot be encoded: %v", err)
		}
		again, err := decodeRequest(bytes.TrimSuffix(out, []byte("\n")))
		if err != nil || !reflect.DeepEqual(again, req) {
			t.Fatalf("%+v came back as %+v, %v", req, again, err)
		}
	})
}

func FuzzDecodeJournal(f *testing.F) {
	for _, s := range []string{`{}`, `{"shop":{"highest":5,"ended":4}}`, `{"shop":{"highest":1,"ended":2}}`, `null`, `{"shop":`, ``} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		marks, err := decodeJournal(b)
		if err != nil {
			return
		}
		for id, m := range marks {
			if m.Ended > m.Highest {
				t.Fatalf("%q: %+v", id, m)
			}
		}
		path := filepath.Join(dir, "epochs")
		if err := (&journal{path: path, marks: marks}).write(); err != nil {
			t.Fatal(err)
		}
		again, err := openJournal(path)
		if err != nil || !maps.Equal(again.marks, marks) {
			t.Fatalf("%v became %v, %v", marks, again, err)
		}
	})
}

func TestReadLine(t *testing.T) {
	r := bufio.NewReaderSize(strings.NewReader("one\n\ntwo\nthree"), maxRequest)
	for _, want := range []string{"one", "", "two"} {
		if line, err := readLine(r); err != nil || string(line) != want {
			t.Fatalf("%q, %v, want %q", line, err, want)
		}
	}
	if _, err := readLine(r); !errors.Is(err, ErrBadRequest) {
		t.Fatalf("a message cut short: %v", err)
	}
	if _, err := readLine(r); !errors.Is(err, io.EOF) {
		t.Fatalf("the end: %v", err)
	}
	r = bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", maxRequest)), maxRequest)
	if _, err := readLine(r); !errors.Is(err, ErrBadRequest) {
		t.Fatalf("an oversized message: %v", err)
	}
}

func TestErrorsCrossTheWire(t *testing.T) {
	for _, c := range codes {
		rep := refuse(fmt.Errorf("while testing: %w", c.err))
		if err := rep.asError(); !errors.Is(err, c.err) || !strings.Contains(err.Error(), "while testing") {
			t.Errorf("%v came back as %v", c.err, err)
		}
	}
	if err := refuse(io.ErrUnexpectedEOF).asError(); !errors.Is(err, errInternal) {
		t.Errorf("an error without a code came back as %v", err)
	}
	if err := (reply{}).asError(); err != nil {
		t.Errorf("success came back as %v", err)
	}
}

func TestAllowUID(t *testing.T) {
	for _, c := range []struct {
		peer, own uint32
		ok        bool
	}{{1000, 1000, true}, {0, 1000, true}, {0, 0, true}, {1001, 1000, false}, {1000, 0, false}} {
		if err := allowUID(c.peer, c.own); (err == nil) != c.ok {
			t.Errorf("peer %d, own %d: %v", c.peer, c.own, err)
		}
	}
}

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "guard.sock.epochs")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []mark{{3, 0}, {3, 3}, {2, 1}, {4, 3}} {
		if err := j.raise(map[draas.ServiceID]mark{"shop": m}); err != nil {
			t.Fatal(err)
		}
	}
	j, err = openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if m := j.get("shop"); m != (mark{4, 3}) {
		t.Fatalf("read back %+v", m)
	}
	if err := os.WriteFile(path, []byte(`{"shop":{"hig`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openJournal(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("a damaged journal must be an error that names it: %v", err)
	}
}

func TestJournalNotWritable(t *testing.T) {
	j, err := openJournal(filepath.Join(t.TempDir(), "gone", "epochs"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // and again: a failure must not count as written
		if err := j.raise(map[draas.ServiceID]mark{"shop": {Highest: 1}}); err == nil {
			t.Fatal("no error without a directory")
		}
	}
	if m := j.get(draas.ServiceID("shop")); m != (mark{}) {
		t.Fatalf("remembers %+v that is not on disk", m)
	}
}
