package openstack

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/syncer"
)

const (
	someProject = "0123456789abcdef0123456789abcdef"
	someUser    = "fedcba9876543210fedcba9876543210"
)

func TestACL(t *testing.T) {
	ref := func(kind syncer.Kind, id string) syncer.Ref {
		return syncer.Ref{Key: syncer.Key{Kind: kind, ID: id}, Weak: true}
	}
	for text, want := range map[string][]any{
		"":                                {},
		" , ,":                            {},
		".r:*,.rlistings,.r:-bad.example": {".r:*", ".rlistings", ".r:-bad.example"},
		"*:*, operator ,acme:ann":         {"*:*", "operator", "acme:ann"},
		someProject + ":" + someUser:      {map[string]any{"project": ref(Project, someProject), "user": ref(User, someUser)}},
		someProject + ":*":                {map[string]any{"project": ref(Project, someProject), "user": "*"}},
		"*:" + someUser + someUser:        {map[string]any{"project": "*", "user": ref(User, someUser+someUser)}},
		"acme:" + someUser:                {map[string]any{"project": "acme", "user": ref(User, someUser)}},
		someProject + ":":                 {someProject + ":"},
		someProject:                       {someProject}, // the name of a role, or nothing
		".r:" + someProject:               {".r:" + someProject},
	} {
		if got := readACL(text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q is %v", text, got)
		}
	}
	// What the other side lacks goes as a whole, and leaves nothing wider behind.
	o := syncer.Object{Fields: syncer.Fields{"read": readACL(someProject + ":" + someUser + "," + someProject + ":*," + ".rlistings")}}
	for name, c := range map[string]struct {
		knows map[syncer.Kind]bool
		want  string
	}{
		"both":    {map[syncer.Kind]bool{Project: true, User: true}, "new-" + someProject + ":new-" + someUser + ",new-" + someProject + ":*,.rlistings"},
		"no user": {map[syncer.Kind]bool{Project: true}, "new-" + someProject + ":*,.rlistings"},
		"neither": {nil, ".rlistings"},
		"no home": {map[syncer.Kind]bool{User: true}, ".rlistings"},
	} {
		w := syncer.Translate(&o, func(k syncer.Key) (syncer.Key, bool) {
			return syncer.Key{Kind: k.Kind, ID: "new-" + k.ID}, c.knows[k.Kind]
		})
		if got := writeACL(w.Fields["read"]); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// FuzzACL: a list means the same when it was read and written, entry by entry,
// and ids are never text.
func FuzzACL(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		var want []string
		for entry := range strings.SplitSeq(text, ",") {
			if entry = strings.TrimSpace(entry); entry != "" {
				want = append(want, entry)
			}
		}
		list := readACL(text)
		if got := writeACL(list); got != strings.Join(want, ",") {
			t.Fatalf("%q became %q", text, got)
		}
		for _, e := range list {
			if m, ok := e.(map[string]any); ok {
				for _, half := range []string{"project", "user"} {
					if id, plain := m[half].(string); plain && isID(id) {
						t.Fatalf("%q: the id %q is text", text, id)
					}
				}
			}
		}
	})
}

// FuzzManifest: what is read of a manifest is written as it was.
func FuzzManifest(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		var rows []row
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if d.Decode(&rows) != nil {
			return
		}
		parts, err := readParts(someProject, rows)
		if err != nil {
			return
		}
		if len(parts) != len(rows) {
			t.Fatalf("%d parts of %d", len(parts), len(rows))
		}
		for i := range parts {
			parts[i].large = false // it is not kept alike
			if parts[i].data != "" {
				parts[i] = part{data: parts[i].data}
			}
		}
		again := partsOf(fieldsOf(parts))
		if !reflect.DeepEqual(parts, again) || sloTag(parts) != sloTag(again) {
			t.Fatalf("%+v became %+v", parts, again)
		}
		for i, e := range manifestBody(parts) {
			r := e.(row)
			if name := rows[i].text("name"); r["data"] == nil && r["path"] != name {
				t.Fatalf("%q became %q", name, r["path"])
			}
		}
	})
}

// FuzzObjectName: a name in an address is that name again, and nothing else of
// it; and of an ID.
func FuzzObjectName(f *testing.F) {
	f.Fuzz(func(t *testing.T, container, name string) {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://swift.example/v1/AUTH_x/"+escape(container+"/"+name), nil)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if u := req.URL; u.RawQuery != "" || u.Fragment != "" || u.Host != "swift.example" || u.Path != "/v1/AUTH_x/"+container+"/"+name {
			t.Fatalf("%q became %q", name, u)
		}
		sent, _, _ := strings.Cut(req.URL.RequestURI(), "?")
		if got, err := url.PathUnescape(strings.TrimPrefix(sent, "/v1/AUTH_x/")); err != nil || got != container+"/"+name {
			t.Fatalf("%q is sent as %q", name, sent)
		}
		if strings.Contains(container, "/") || container == "" {
			return
		}
		if p, c, n := split(someProject + "/" + container + "/" + name); p != someProject || c != container || n != name {
			t.Fatalf("%q, %q: split as %q, %q", container, name, c, n)
		}
		h := make(map[string]string)
		m := syncer.Marker{Site: "east", ID: someProject + "/" + container}
		if err := markContainer(h, m, name); err != nil {
			if len(escape(container)) <= maxMeta {
				t.Fatal(err)
			}
			return
		}
		header := make(http.Header)
		for k, v := range h {
			if strings.Trim(v, " ") != v || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) || len(v) > maxMeta {
				t.Fatalf("the marker %q is no header", v)
			}
			header.Set(k, v)
		}
		if got := containerMarker(header, name); got != m {
			t.Fatalf("marker %v became %v", m, got)
		}
	})
}

// A listing and a header of the same object have to make the same revision.
func TestTicks(t *testing.T) {
	at := time.Date(2026, 11, 21, 23, 59, 59, 123450000, time.UTC)
	for stamp, listed := range map[string]string{
		"1795305599.12345":                  "2026-11-21T23:59:59.123450",
		"1795305599.12345_0000000000000001": "2026-11-21T23:59:59.123450",
		"1795305599.00000":                  "2026-11-21T23:59:59.000000",
		"1795305599":                        "2026-11-21T23:59:59",
		"1795305599.1":                      "2026-11-21T23:59:59.100Z",
	} {
		if a, b := ticks(stamp), listedTicks(listed); a != b {
			t.Errorf("%s is %s, and %s is %s", stamp, a, listed, b)
		}
	}
	if got := listedTicks(at.Format("2006-01-02T15:04:05.000000")); got != "1795305599.12345" {
		t.Errorf("%s", got)
	}
	if listedTicks("yesterday") != "yesterday" {
		t.Error("what cannot be read has changed")
	}
}

// A change of a container's header says what is to go, too.
func TestContainerHeader(t *testing.T) {
	const project = someProject
	box := func(way, name string) any {
		return map[string]any{"way": way, "container": syncer.Ref{Key: syncer.Key{Kind: Container, ID: project + "/" + name}}}
	}
	have := syncer.Fields{"read": readACL(".r:*"), "write": readACL("*:*"), "metadata": map[string]any{"a": "1", "b": "2"}, "versions": true, "archive": box("versions", "old")}
	for name, c := range map[string]struct{ want, header syncer.Fields }{
		"all away": {syncer.Fields{"read": []any{}, "write": []any{}, "metadata": map[string]any{}, "versions": false, "archive": nil},
			syncer.Fields{"X-Remove-Container-Read": "x", "X-Remove-Container-Write": "x", "X-Remove-Container-Meta-a": "x", "X-Remove-Container-Meta-b": "x",
				"X-Versions-Enabled": "false", "X-Remove-Versions-Location": "x"}},
		"others": {syncer.Fields{"read": readACL(".rlistings"), "metadata": map[string]any{"a": "1", "c": "3"}, "archive": box("history", "ö d")},
			syncer.Fields{"X-Container-Read": ".rlistings", "X-Container-Meta-a": "1", "X-Container-Meta-c": "3", "X-Remove-Container-Meta-b": "x",
				"X-Remove-Versions-Location": "x", "X-History-Location": "%C3%B6%20d"}},
	} {
		header := make(map[string]string)
		var fields []string
		for f := range c.want {
			fields = append(fields, f)
		}
		containerHeader(header, have, c.want, fields)
		got := make(syncer.Fields)
		for k, v := range header {
			got[k] = v
		}
		if d := syncer.Diff(got, c.header); d != nil {
			t.Errorf("%s: differs in %v: %v", name, d, got)
		}
	}
	h := http.Header{"X-History-Location": {"%C3%B6%20d"}}
	if got := archive(project, h); !reflect.DeepEqual(got, box("history", "ö d")) {
		t.Errorf("archive: %v", got)
	}
}

// The account of another project is beside ours; where an endpoint names none
// it is not guessed.
func TestInfoAddress(t *testing.T) {
	for in, want := range map[string]string{
		"http://h:8080/v1/AUTH_x/":              "http://h:8080/info",
		"https://h/object-store/v1/AUTH_x/":     "https://h/object-store/info",
		"https://h/swift/v1/":                   "https://h/swift/info",
		"https://h:13808/swift/v1/AUTH_v1/deep": "https://h:13808/swift/info",
	} {
		if got := infoAddress(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
