package measure

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/rto"
)

// spoken is a connection whose other end has said all that it will.
type spoken struct {
	net.Conn
	said   io.Reader
	read   int
	closed bool
}

func (s *spoken) Read(b []byte) (int, error) {
	n, err := s.said.Read(b)
	s.read += n
	return n, err
}

func (s *spoken) Write(b []byte) (int, error) { return len(b), nil }
func (*spoken) SetDeadline(time.Time) error   { return nil }
func (s *spoken) Close() error                { s.closed = true; return nil }

// FuzzAnswer: whatever a server says, no more of it is read than the bound, a
// good answer is one that net/http finds a success with a whole body, and a
// connection is kept only where nothing is left on it.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Draas-Site: dr\r\nX-Draas-Epoch: 7\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nuntil it is closed",
		"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + strings.Repeat("x", 70000),
		"HTTP/1.1 101 Switching Protocols\r\n\r\n",
	} {
		f.Add([]byte(s), false)
	}
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\n"), true)
	f.Fuzz(func(t *testing.T, said []byte, again bool) {
		if again { // as often as is read
			said = bytes.Repeat(said, 1+2*maxAnswer/max(len(said), 1))
		}
		wire := &spoken{said: bytes.NewReader(said)}
		src := &source{conn: wire}
		c := &client{idle: make(chan *conn, 1)}
		a, err := c.exchange(t.Context(), &conn{Conn: wire, source: src, reader: bufio.NewReader(src)})
		if wire.read > maxAnswer {
			t.Fatalf("%d bytes read", wire.read)
		}
		kept := c.take()
		if err != nil {
			if kept != nil || !wire.closed || a.site != "" {
				t.Fatalf("kept, and not good: %v", err)
			}
			if class := classify(err); class == rto.Good {
				t.Fatalf("%v is good", err)
			}
			return
		}
		theirs, terr := readResponse(bufio.NewReader(bytes.NewReader(said)))
		if terr != nil || theirs.StatusCode/100 != 2 {
			t.Fatalf("good; net/http: %+v, %v", theirs, terr)
		}
		defer theirs.Body.Close()
		n, terr := io.Copy(io.Discard, io.LimitReader(theirs.Body, maxBody))
		if terr != nil {
			t.Fatalf("good after %d bytes of body; net/http: %v", n, terr)
		}
		if more, _ := io.Copy(io.Discard, theirs.Body); more > 0 && kept != nil {
			t.Fatalf("kept with %d bytes of the body to come", more)
		}
		if site := theirs.Header.Get(HeaderSite); a.site != "" && string(a.site) != site || a.site == "" && validSite(site) {
			t.Fatalf("site %q, said was %q", a.site, site)
		}
		if (kept != nil) == wire.closed || kept != nil && (kept.reader.Buffered() > 0 || theirs.Close) {
			t.Fatalf("kept %v, closed %v, %d bytes left", kept != nil, wire.closed, kept.reader.Buffered())
		}
	})
}

// FuzzReport: a report is read as it was written, its times to the microsecond.
func FuzzReport(f *testing.F) {
	r := Report{URL: "http://shop.example/", Started: time.Unix(1e9, 0).UTC(), Duration: Millis(time.Minute), Rate: 50, Client: KeepAlive,
		Outcome: Outcome{Counts: Counts{Sent: 9, Errors: map[string]int{"timeout": 2}, Served: []Served{{Site: "dr", Epoch: 4, Answers: 7}}},
			Outages: []Outage{{Length: Millis(4321 * time.Microsecond), Recovered: true, Site: "dr", Epoch: 4}}},
		Sites: map[draas.SiteID]*Counts{"dr": {Sent: 1}}, DualActiveSpans: []Span{{}}}
	r.Clients = map[Kind]*Outcome{KeepAlive: &r.Outcome}
	r.Writes = &Writes{Known: true, Acked: 9, Lost: 2, LostNumbers: []uint64{7, 8}, RPO: Millis(time.Second)}
	r.Outcome.Stale, r.Outcome.Strip = []Stale{{Old: 2, Users: 3}}, []Stretch{{Length: Millis(time.Second), Site: "dr", Sent: 5}}
	r.Join(&Daemon{Service: "shop", Members: []MemberClock{{Member: "dr", Known: true, Offset: Millis(-time.Millisecond)}},
		Moves: []Move{{Kind: "failover", To: "dr", Epoch: 4, Complete: true, Turns: []Turn{{Name: "decided", Part: "confirm", Shifted: true}},
			Loss: &Loss{From: "primary", Known: true, Behind: Millis(4200 * time.Millisecond), Objects: 3, Bytes: 40 << 20, By: "dr", Text: "so"}}}})
	data, err := json.Marshal(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"duration_ms":1e300}`))
	f.Add([]byte(`{"duration_ms":-9223372036854.775807,"dual_active_ms":1e-9}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Report
		if json.Unmarshal(data, &r) != nil {
			return
		}
		var plain struct {
			Duration float64 `json:"duration_ms"`
		}
		if err := json.Unmarshal(data, &plain); err != nil {
			t.Fatal(err)
		}
		if off := math.Abs(plain.Duration - float64(r.Duration)/1e6); off > 0.001+math.Abs(plain.Duration)/1e9 {
			t.Fatalf("%v ms became %v", plain.Duration, r.Duration)
		}
		once, err := json.Marshal(r)
		if err != nil {
			t.Fatalf("read what cannot be written: %v", err)
		}
		var back Report
		if err := json.Unmarshal(once, &back); err != nil {
			t.Fatalf("%s cannot be read again: %v", once, err)
		}
		if twice, err := json.Marshal(back); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s became %s, %v", once, twice, err)
		}
		if d := time.Duration(back.Duration - r.Duration).Abs(); d > time.Microsecond {
			t.Fatalf("%v became %v", r.Duration, back.Duration)
		}
		if err := r.Check(time.Second); err != nil && !errors.Is(err, ErrVoid) && !errors.Is(err, ErrExceeded) {
			t.Fatalf("judged as %v", err)
		}
	})
}
