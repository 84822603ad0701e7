package daemon

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/connect"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
)

// FuzzBody: of what is posted to the API, nothing is taken that has more in it
// than the daemon understands, and what is taken says the same when it is
// written again.
func FuzzBody(f *testing.F) {
	for _, v := range []any{
		api.Request{Service: "shop", Site: "dr", Request: failover.Request{Move: failover.MoveFailover, Operator: "ada", Reason: "flood", Expect: 3, AllowDataLoss: true, Vouch: true}},
		api.Request{Service: "shop", Request: failover.Request{Ask: failover.AskPause, For: time.Hour, Reason: "storage"}},
		api.Force{OldSiteIsOff: true, Operator: "ada", Reason: "flood"},
	} {
		data, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(append(data, data...))
	}
	f.Add([]byte(`{"service":"shop","move":"failover","force":true}`))
	f.Add([]byte(`{"service":"shop","for_ns":1e3}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"operator":"` + strings.Repeat("x", api.MaxRequest) + `"}`))
	known := map[reflect.Type][]string{
		reflect.TypeFor[*api.Request](): {"service", "site", "move", "ask", "operator", "reason", "expect", "for_ns", "allow_data_loss", "vouch"},
		reflect.TypeFor[*api.Force]():   {"old_site_is_off", "operator", "reason"},
		reflect.TypeFor[*api.Follow]():  {"frontend", "tag", "wait_ms", "services", "evidence"},
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, into := range []any{new(api.Request), new(api.Force), new(api.Follow)} {
			read := func(data []byte, into any) error {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api.PathRequest, bytes.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				return readBody(r, into, api.MaxRequest)
			}
			if err := read(body, into); err != nil {
				var bad badRequest
				if !errors.As(err, &bad) {
					t.Fatalf("not called bad: %v", err)
				}
				continue
			}
			if len(body) > api.MaxRequest || !json.Valid(body) {
				t.Fatalf("%d bytes were taken: %+v", len(body), into)
			}
			var fields map[string]json.RawMessage
			if err := json.Unmarshal(body, &fields); err != nil {
				t.Fatalf("%q was taken: %v", body, err)
			}
			for name := range fields {
				if !slices.ContainsFunc(known[reflect.TypeOf(into)], func(k string) bool { return strings.EqualFold(k, name) }) {
					t.Fatalf("%q was taken, with %q in it", body, name)
				}
			}
			again := reflect.New(reflect.TypeOf(into).Elem()).Interface()
			data, err := json.Marshal(into)
			if err != nil || len(data) <= api.MaxRequest && (read(data, again) != nil || !reflect.DeepEqual(into, again)) {
				t.Fatalf("%s, %v: %+v became %+v", data, err, into, again)
			}
		}
	})
}

// FuzzAPI: whatever is asked of a daemon whose main loop takes nothing, the
// answer is an error, in the form that the client reads.
func FuzzAPI(f *testing.F) {
	for _, path := range []string{api.PathRequest, api.PathForce, api.PathWhy, api.PathHistory + "?service=shop&limit=-1", api.PathStatus + "?local=%zz", "/", "/v1/request/../force"} {
		f.Add(http.MethodPost, path, []byte(`{"service":"shop","move":"failover"}`))
		f.Add(http.MethodGet, path, []byte(nil))
	}
	gone, cancel := context.WithCancel(f.Context())
	cancel()
	h := (&Daemon{loop: &loop{inbox: make(chan func(*loop))}}).handler()
	f.Fuzz(func(t *testing.T, method, target string, body []byte) {
		r, err := http.NewRequestWithContext(gone, method, "http://draasd"+target, bytes.NewReader(body))
		if err != nil || r.URL.Path == api.PathWatch || r.URL.Path == api.PathReload || r.URL.Path == api.PathLeave {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusOK {
			t.Fatalf("%s %s is answered with %s", method, target, w.Body)
		}
		var e api.Error
		known := w.Code == http.StatusNotFound || w.Code == http.StatusMethodNotAllowed || w.Code/100 == 3 // the library's
		if json.NewDecoder(io.LimitReader(w.Body, api.MaxRequest)).Decode(&e) != nil && !known {
			t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
	})
}

// FuzzIdentity: the name in the certificate is that of the first one in the
// file, or there is none.
func FuzzIdentity(f *testing.F) {
	v := quorum.Validity{}
	ca, err := quorum.NewCA("fuzz", v)
	if err != nil {
		f.Fatal(err)
	}
	id, err := ca.Issue("dr", nil, v)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(id.CertPEM, ca.CertPEM...))
	f.Add(append(id.KeyPEM, id.CertPEM...))
	f.Add(id.CertPEM[:100])
	f.Fuzz(func(t *testing.T, data []byte) {
		name, err := connect.NameIn(data)
		if err != nil {
			if name != "" {
				t.Fatalf("%q and %v", name, err)
			}
			return
		}
		block, _ := pem.Decode(data)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || cert.Subject.CommonName != name {
			t.Fatalf("%q is taken for %q, %v", cert.Subject.CommonName, name, err)
		}
	})
}
