package fence

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	draas "github.com/draasd/draas"
)

// heard is a connection on which a guard has said all that it will.
type heard struct {
	net.Conn
	said io.Reader
}

func (h *heard) Read(b []byte) (int, error)  { return h.said.Read(b) }
func (h *heard) Write(b []byte) (int, error) { return len(b), nil }
func (*heard) SetDeadline(time.Time) error   { return nil }
func (*heard) Close() error                  { return nil }

// hears is a client whose connection says that.
func hears(said []byte) *Client {
	c := Dial("/nowhere")
	h := &heard{said: bytes.NewReader(said)}
	c.idle = []*clientConn{{Conn: h, r: bufio.NewReaderSize(h, maxReply)}}
	return c
}

// FuzzHear: whatever stands on the guard's socket, the client takes a fence for
// closed or a permit for taken only where the guard says so of that service.
func FuzzHear(f *testing.F) {
	for _, s := range []string{
		`{"services":[{"service":"shop","kind":"path","state":"closed","epoch":3,"ended":3,"left_ns":0,"worst_ns":100000000}]}`,
		`{"code":"stale_epoch","error":"epoch 2, seen 3","services":[{"service":"shop","kind":"path","state":"open","epoch":3,"ended":0,"left_ns":5,"worst_ns":1}]}`,
		`{"services":[{"service":"shop","kind":"exec","state":"open","epoch":3,"ended":0,"left_ns":5,"worst_ns":1},{"service":"bill","kind":"exec","state":"closed","epoch":0,"ended":0,"left_ns":0,"worst_ns":1}],"refused":[{},{"code":"not_ready","error":"x"}]}`,
		`{"services":[{"service":"bill","state":"open"},{"service":"shop","state":"closed"}],"refused":[{},{}]}`,
		`{"code":"no such code","error":"y"}`, `{}`, `null`, `[]`, `{"services":[{"service":"bill"}]}`, "",
	} {
		f.Add([]byte(s + "\n"))
	}
	f.Add([]byte(`{"services":[`))
	f.Fuzz(func(t *testing.T, said []byte) {
		line, _, whole := bytes.Cut(said, []byte("\n"))
		st, err := hears(said).Shut(t.Context(), "shop", 3)
		if err == nil && (!whole || len(line) >= maxReply || st.Service != "shop" || !bytes.Contains(line, []byte("shop")) && !bytes.Contains(line, []byte(`\u`))) {
			t.Fatalf("taken for closed: %+v", st)
		}
		if err == nil || !strings.Contains(err.Error(), "hear guard") {
			for _, c := range codes {
				if errors.Is(err, c.err) && !strings.Contains(string(line), c.code) && !strings.Contains(string(line), `\u`) {
					t.Fatalf("%s is taken for %v", line, err)
				}
			}
		}
		asked := []Extension{{Service: "shop"}, {Service: "bill"}}
		all, err := hears(said).ExtendAll(t.Context(), asked)
		if err != nil {
			if len(all) > 0 {
				t.Fatalf("%d results and %v", len(all), err)
			}
			return
		}
		for i, x := range asked {
			if len(all) != 2 || all[i].Status.Service != x.Service {
				t.Fatalf("asked %v, heard %v", asked, all)
			}
		}
	})
}

// FuzzAnswer: whatever is asked of a guard that holds no such service, it
// answers within the bound, and the client hears what it said: the same status,
// and the same error by its code.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"op":"status"}`))
	f.Add([]byte(`{"op":"close","service":"shop","epoch":3}`))
	f.Add([]byte(`{"op":"extend","service":"\u003c\u2028","epoch":3,"deadline":{"boot":1,"wall":2}}`))
	f.Add([]byte(`{"op":"extend_all","extend":[{"service":"a","epoch":3,"deadline":{"boot":1,"wall":2}},{"service":"b","epoch":1,"deadline":{}}]}`))
	var many []string
	for i := range maxExtensions {
		many = append(many, fmt.Sprintf(`{"service":"%s%d"}`, strings.Repeat("<", 200), i))
	}
	f.Add([]byte(`{"op":"extend_all","extend":[` + strings.Join(many, ",") + `]}`))
	f.Add([]byte(`{`))
	g, err := NewGuard(GuardConfig{Socket: "/nowhere"})
	if err != nil {
		f.Fatal(err)
	}
	g.journal = &journal{path: "/nowhere/epochs", marks: map[draas.ServiceID]mark{}}
	f.Fuzz(func(t *testing.T, line []byte) {
		if len(line) >= maxRequest {
			return // readLine's to refuse
		}
		rep := g.answer(t.Context(), line)
		out, err := encodeLine(rep, maxReply)
		if err != nil {
			t.Fatalf("an answer that cannot be given: %v", err)
		}
		answer, err := readLine(bufio.NewReaderSize(bytes.NewReader(out), maxReply))
		if err != nil {
			t.Fatalf("an answer that cannot be read: %v", err)
		}
		got, err := decodeReply(answer)
		if err != nil || utf8.Valid(line) && !reflect.DeepEqual(got, rep) {
			t.Fatalf("said %+v, heard %+v, %v", rep, got, err)
		}
		req, err := decodeRequest(line)
		switch {
		case err != nil:
			if !errors.Is(got.asError(), ErrBadRequest) || len(got.Services) > 0 {
				t.Fatalf("%s, %v: answered %+v", line, err, got)
			}
		case req.Op == opStatus:
			if got.asError() != nil || len(got.Services) > 0 {
				t.Fatalf("answered %+v", got)
			}
		case req.Op == opExtendAll:
			if err := got.about(req.Extend); err != nil || len(got.Refused) != len(req.Extend) {
				t.Fatalf("%v, %d refused of %d", err, len(got.Refused), len(req.Extend))
			}
			for _, r := range got.Refused {
				if !errors.Is(r.asError(), ErrUnknownService) {
					t.Fatalf("refused with %v", r.asError())
				}
			}
		default:
			if !errors.Is(got.asError(), ErrUnknownService) || got.about([]Extension{{Service: req.Service}}) != nil {
				t.Fatalf("answered %+v", got)
			}
		}
	})
}
