package cloudflare

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/schemes/dns/dnstest"
)

const zoneID = "023e105f4ecef8ad9ca31a8372d0c353"

// fake is as much of Cloudflare's interface as draas uses. Its batches are
// transactions, and ids are never used twice.
type fake struct {
	dns *dnstest.DNS

	mu      sync.Mutex
	token   string
	rotated int
	echo    bool
	page    int // records on a page
	next    int // id
	records []record
	lie     func(map[string]any) // changes what is answered to a listing
}

func newFake(_ testing.TB, d *dnstest.DNS) *fake {
	f := &fake{dns: d, page: 2}
	f.Rotate()
	return f
}

// Credentials implements dnstest.Fake.
func (f *fake) Credentials() (text, secret string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.token + "\n", f.token
}

// Rotate implements dnstest.Fake.
func (f *fake) Rotate() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rotated++
	f.token = fmt.Sprintf("canary_YQSn-xWAQiiEh9qM58wZNnyQS7FUdoqGIU_%03d", f.rotated)
}

// Echo implements dnstest.Fake.
func (f *fake) Echo() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.echo = true
}

// Seed implements dnstest.Fake.
func (f *fake) Seed(records ...mdns.RR) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, rr := range records {
		h := rr.Header()
		f.add(record{Type: mdns.TypeToString[h.Rrtype], Name: strings.TrimSuffix(h.Name, "."), TTL: int(h.Ttl),
			Content: strings.TrimSuffix(strings.TrimPrefix(rr.String(), h.String()), ".")})
	}
	f.publish()
}

// seedRecord puts a record there as it is.
func (f *fake) seedRecord(r record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(r)
	f.publish()
}

func (f *fake) add(r record) {
	f.next++
	r.ID = fmt.Sprintf("%032x", f.next)
	f.records = append(f.records, r)
}

// Dump implements dnstest.Fake.
func (f *fake) Dump() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for _, r := range f.records {
		lines = append(lines, fmt.Sprintf("%s %d %s %s %q", r.Name, r.TTL, r.Type, r.Content, r.Comment))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (f *fake) publish() {
	var records []mdns.RR
	for _, r := range f.records {
		if rr, err := mdns.NewRR(fmt.Sprintf("%s. %d IN %s %s", r.Name, r.TTL, r.Type, r.value())); err == nil {
			records = append(records, rr)
		}
	}
	f.dns.Publish(records)
}

// Writes implements dnstest.Backend.
func (f *fake) Writes(r *http.Request) bool { return r.Method == http.MethodPost }

// Refuse implements dnstest.Backend.
func (f *fake) Refuse(w http.ResponseWriter) {
	f.fail(w, http.StatusForbidden, 10000, "Authentication error")
}

// Throttle implements dnstest.Backend.
func (f *fake) Throttle(w http.ResponseWriter, seconds string) {
	if seconds != "" {
		w.Header().Set("Retry-After", seconds)
	}
	f.fail(w, http.StatusTooManyRequests, 10429, "Rate limited")
}

func (f *fake) fail(w http.ResponseWriter, status, code int, message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.echo {
		message += " " + f.token
	}
	f.write(w, status, map[string]any{"success": false, "messages": []any{}, "result": nil,
		"errors": []any{map[string]any{"code": code, "message": message}}})
}

func (f *fake) write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// ServeHTTP implements http.Handler.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	token := f.token
	f.mu.Unlock()
	switch path := r.URL.Path; {
	case r.Header.Get("Authorization") != "Bearer "+token:
		f.fail(w, http.StatusForbidden, 9109, "Invalid access token")
	case path == "/client/v4/zones/"+zoneID+"/dns_records" && r.Method == http.MethodGet:
		f.list(w, r)
	case path == "/client/v4/zones/"+zoneID+"/dns_records/batch" && r.Method == http.MethodPost:
		f.batch(w, r)
	default:
		f.fail(w, http.StatusNotFound, 7003, "Could not route to "+path+", perhaps your object identifier is invalid?")
	}
}

func (f *fake) list(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := r.URL.Query()
	page, err := strconv.Atoi(q.Get("page"))
	if err != nil || page < 1 {
		page = 1
	}
	found := []record{}
	for _, rec := range f.records {
		if strings.EqualFold(rec.Name, q.Get("name.exact")) {
			found = append(found, rec)
		}
	}
	total := len(found)
	found = found[min(len(found), (page-1)*f.page):]
	found = found[:min(len(found), f.page)]
	out := map[string]any{"success": true, "errors": []any{}, "messages": []any{}, "result": found,
		"result_info": map[string]any{"page": page, "per_page": f.page, "count": len(found), "total_count": total,
			"total_pages": (total + f.page - 1) / f.page}}
	if f.lie != nil {
		f.lie(out)
	}
	f.write(w, http.StatusOK, out)
}

func (f *fake) batch(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Deletes []record `json:"deletes"`
		Puts    []record `json:"puts"`
		Posts   []record `json:"posts"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		f.fail(w, http.StatusBadRequest, 9207, "Failed to parse JSON")
		return
	}
	f.mu.Lock()
	before := slices.Clone(f.records)
	code, message := f.apply(in.Deletes, in.Puts, in.Posts)
	if code != 0 {
		f.records = before
		f.mu.Unlock()
		f.fail(w, http.StatusBadRequest, code, message)
		return
	}
	f.publish()
	f.write(w, http.StatusOK, map[string]any{"success": true, "errors": []any{}, "messages": []any{},
		"result": map[string]any{"deletes": in.Deletes, "puts": in.Puts, "posts": in.Posts}})
	f.mu.Unlock()
}

// apply makes the changes in the order that is documented, or says why not.
func (f *fake) apply(deletes, puts, posts []record) (int, string) {
	f.records = slices.Clone(f.records)
	find := func(id string) int { return slices.IndexFunc(f.records, func(r record) bool { return r.ID == id }) }
	for _, d := range deletes {
		i := find(d.ID)
		if i < 0 {
			return 81044, "Record does not exist."
		}
		f.records = slices.Delete(f.records, i, i+1)
	}
	for _, p := range puts {
		i := find(p.ID)
		if i < 0 {
			return 81044, "Record does not exist."
		}
		f.records = slices.Delete(f.records, i, i+1)
		if code, message := f.refuses(p); code != 0 {
			return code, message
		}
		f.records = append(f.records, p)
	}
	for _, p := range posts {
		if code, message := f.refuses(p); code != 0 {
			return code, message
		}
		f.add(p)
	}
	return 0, ""
}

func (f *fake) refuses(p record) (int, string) {
	if p.TTL != 1 && (p.TTL < 60 || p.TTL > 86400) {
		return 9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic."
	}
	for _, r := range f.records {
		switch {
		case !strings.EqualFold(r.Name, p.Name):
		case r.Type == p.Type && r.Content == p.Content:
			return 81058, "An identical record already exists."
		case p.Type == "CNAME" && slices.Contains([]string{"A", "AAAA", "CNAME"}, r.Type):
			return 81053, "An A, AAAA, or CNAME record with that host already exists."
		case r.Type == "CNAME" && slices.Contains([]string{"A", "AAAA"}, p.Type):
			return 81054, "A CNAME record with that host already exists."
		}
	}
	return 0, ""
}
