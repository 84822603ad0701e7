package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// said is a daemon that gives the same answer to everything.
type said struct {
	code int
	body *counted
}

// counted counts what is read of it.
type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += n
	return n, err
}

func (*counted) Close() error { return nil }

func (s said) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: s.code, Status: "\x1b[2J", Body: s.body, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}, nil
}

func saying(code int, body []byte, endless bool) (*Client, *counted) {
	r := io.Reader(bytes.NewReader(body))
	if endless {
		r = io.MultiReader(r, blanks{})
	}
	c := &counted{Reader: r}
	return &Client{http: &http.Client{Transport: said{code, c}}, base: "http://draasd", name: "draasd"}, c
}

// blanks never end.
type blanks struct{}

func (blanks) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// FuzzAnswers: of whatever a daemon answers, what is taken is what it would write
// again, and an error that it tells is short and harmless on a terminal.
func FuzzAnswers(f *testing.F) {
	at := time.Unix(1e9, 0).UTC()
	move := &failover.Move{Kind: failover.MoveFailover, From: "primary", To: "dr", Epoch: 4, Times: failover.Times{Decided: at}}
	for _, v := range []any{
		Status{Cluster: "c", Self: "dr", At: at, Leader: "dr", Members: []MemberStatus{{ID: "dr", Role: draas.RoleSite, SeenBy: map[draas.MemberID]draas.Verdict{"primary": draas.Healthy}}},
			Services: []ServiceStatus{{ID: "shop", Phase: failover.PhaseFencing, Move: move, Views: []View{{Site: "dr", Vantage: "dr", Verdict: draas.Suspect}}, Pause: &failover.Pause{Operator: "ada", For: time.Hour, Since: at}}},
			Reported: []Reported{{Member: "dr", Fences: []FenceStatus{{Service: "shop", State: "open"}}}}, Reload: &Reload{At: at}},
		Why{Service: "shop", Now: []failover.Reason{{Code: failover.ReasonHold, Text: "x"}}, Decisions: []failover.Record{{At: at, Move: move}}},
		[]failover.Record{{Index: 2, At: at, Kind: failover.RecordMember, Text: "dr started"}},
		Answer{Accepted: true}, Reload{Refused: []string{"line 1"}}, Done{Text: "done"}, Error{Error: "no leader"}, Error{Error: "\x1b[31m"},
	} {
		data, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint16(http.StatusOK), data)
		f.Add(uint16(http.StatusServiceUnavailable), data)
	}
	f.Fuzz(func(t *testing.T, code uint16, body []byte) {
		if code < 100 || code > 999 || code/100 == 3 {
			return // the library's own: other answers never come here
		}
		for name, ask := range map[string]func(*Client) (any, error){
			"status":  func(c *Client) (any, error) { return c.Status(t.Context(), false) },
			"why":     func(c *Client) (any, error) { return c.Why(t.Context(), "shop") },
			"history": func(c *Client) (any, error) { return c.History(t.Context(), "", 9) },
			"request": func(c *Client) (any, error) { return c.Request(t.Context(), Request{}) },
			"reload":  func(c *Client) (any, error) { return c.Reload(t.Context()) },
			"leave":   func(c *Client) (any, error) { return c.Leave(t.Context()) },
			"force":   func(c *Client) (any, error) { return c.Force(t.Context(), Force{}) },
		} {
			c, _ := saying(int(code), body, false)
			got, err := ask(c)
			if err != nil {
				harmless(t, err)
				continue
			}
			if code != http.StatusOK {
				t.Fatalf("%s: took %+v with code %d", name, got, code)
			}
			sameAgain(t, name, got)
		}
		c, _ := saying(int(code), body, false)
		n := 0
		err := c.Watch(t.Context(), func(s *Status) error {
			n++
			sameAgain(t, "watch", s)
			return nil
		})
		if lines := bytes.Count(body, []byte("\n")) + 1; n > lines || n > 0 && code != http.StatusOK {
			t.Fatalf("%d statuses of %d lines, code %d", n, lines, code)
		}
		if err != nil {
			harmless(t, err)
		}
		stop := errors.New("enough")
		c, _ = saying(int(code), body, false)
		if err := c.Watch(t.Context(), func(*Status) error { return stop }); n > 0 && !errors.Is(err, stop) {
			t.Fatalf("it does not stop: %v", err)
		}
	})
}

// No more is read of an answer that does not end than the bound.
func TestEndlessAnswer(t *testing.T) {
	for _, code := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		c, read := saying(code, []byte(`{"cluster":"c","error":"x"`), true)
		if s, err := c.Status(t.Context(), false); err == nil || read.n > maxAnswer+4096 || read.n < MaxRequest {
			t.Errorf("%d bytes read, %+v, %v", read.n, s, err)
		}
		c, read = saying(code, nil, true)
		if err := c.Watch(t.Context(), func(*Status) error { return nil }); err == nil || read.n > maxAnswer+4096 {
			t.Errorf("%d bytes watched, %v", read.n, err)
		}
	}
}

func harmless(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	if len(text) > MaxRequest || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		t.Fatalf("an error of %d bytes: %.200q", len(text), text)
	}
}

// sameAgain writes a value, reads it, and writes it again.
func sameAgain(t *testing.T, name string, v any) {
	t.Helper()
	once, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%s: took what cannot be written: %v", name, err)
	}
	back := reflect.New(reflect.TypeOf(v))
	if err := json.Unmarshal(once, back.Interface()); err != nil {
		t.Fatalf("%s: %s cannot be read again: %v", name, once, err)
	}
	if twice, err := json.Marshal(back.Interface()); err != nil || !bytes.Equal(once, twice) {
		t.Fatalf("%s:\n%s\nbecame\n%s, %v", name, once, twice, err)
	}
}
