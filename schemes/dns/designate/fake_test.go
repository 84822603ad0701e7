package designate

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/schemes/dns/dnstest"
)

const zoneID = "2150b1bf-dee2-4221-9d85-11f7886fb15f"

// fake is as much of Keystone and Designate as draas uses: tokens that expire,
// record sets that are replaced one by one, and a worker that is behind.
type fake struct {
	dns *dnstest.DNS

	mu       sync.Mutex
	password string
	rotated  int
	echo     bool
	tokens   map[string]bool
	logins   int
	page     int // record sets on a page
	next     int // id
	sets     []rrset
	behind   time.Duration // until a change is ACTIVE
	stuck    string        // status of what changes, instead
	managed  bool          // the record sets are Neutron's
	lie      func(map[string]any)
}

type rrset struct {
	ID      string   `json:"id"`
	ZoneID  string   `json:"zone_id"`
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	TTL     *int     `json:"ttl"`
	Records []string `json:"records"`
	Status  string   `json:"status"`
	Action  string   `json:"action"`

	active time.Time // from when on
}

func newFake(_ testing.TB, d *dnstest.DNS) *fake {
	f := &fake{dns: d, page: 2, tokens: make(map[string]bool)}
	f.Rotate()
	return f
}

// Credentials implements dnstest.Fake. The identity service's address is not
// known here: see service.
func (f *fake) Credentials() (text, secret string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.password, f.password
}

// Rotate implements dnstest.Fake. A changed password ends the tokens.
func (f *fake) Rotate() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rotated++
	f.password = fmt.Sprintf("canary-correct-horse-%03d", f.rotated)
	clear(f.tokens)
}

// expire ends all tokens.
func (f *fake) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tokens)
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
		text, ttl := strings.TrimPrefix(rr.String(), h.String()), int(h.Ttl)
		i := slices.IndexFunc(f.sets, func(o rrset) bool { return o.Name == h.Name && o.Type == mdns.TypeToString[h.Rrtype] })
		if i < 0 {
			f.add(rrset{Name: h.Name, Type: mdns.TypeToString[h.Rrtype], TTL: &ttl, Action: "CREATE"})
			i = len(f.sets) - 1
		}
		f.sets[i].Records = append(slices.Clone(f.sets[i].Records), text)
	}
	f.publish()
}

func (f *fake) add(s rrset) *rrset {
	f.next++
	s.ID, s.ZoneID = fmt.Sprintf("f7b10e9b-0cae-4a91-b162-%012x", f.next), zoneID
	f.sets = append(f.sets, s)
	return &f.sets[len(f.sets)-1]
}

// Dump implements dnstest.Fake.
func (f *fake) Dump() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for _, s := range f.sets {
		if s.Action == "DELETE" {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s %d %s %v", s.Name, *s.TTL, s.Type, slices.Sorted(slices.Values(s.Records))))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (f *fake) publish() {
	var records []mdns.RR
	for _, s := range f.sets {
		if s.Action == "DELETE" {
			continue
		}
		for _, r := range s.Records {
			if rr, err := mdns.NewRR(fmt.Sprintf("%s %d IN %s %s", s.Name, *s.TTL, s.Type, r)); err == nil {
				records = append(records, rr)
			}
		}
	}
	f.dns.Publish(records)
}

// Writes implements dnstest.Backend.
func (f *fake) Writes(r *http.Request) bool {
	return r.Method != http.MethodGet && !strings.HasPrefix(r.URL.Path, "/v3/")
}

// Refuse implements dnstest.Backend.
func (f *fake) Refuse(w http.ResponseWriter) {
	f.fail(w, http.StatusForbidden, "forbidden", "Operation is forbidden by policy")
}

// Throttle implements dnstest.Backend.
func (f *fake) Throttle(w http.ResponseWriter, seconds string) {
	if seconds != "" {
		w.Header().Set("Retry-After", seconds)
	}
	f.fail(w, http.StatusTooManyRequests, "over_rate", "Too many requests")
}

func (f *fake) fail(w http.ResponseWriter, status int, kind, message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.echo {
		message += " " + f.password
		for token := range f.tokens {
			message += " " + token
		}
	}
	f.write(w, status, map[string]any{"code": status, "type": kind, "message": message, "request_id": "req-1"})
}

func (f *fake) write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// ServeHTTP implements http.Handler.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v3/auth/tokens" && r.Method == http.MethodPost {
		f.authenticate(w, r)
		return
	}
	f.mu.Lock()
	known := f.tokens[r.Header.Get("X-Auth-Token")]
	f.mu.Unlock()
	sets := "/dns/v2/zones/" + zoneID + "/recordsets"
	id, one := strings.CutPrefix(r.URL.Path, sets+"/")
	switch {
	case !known:
		f.fail(w, http.StatusUnauthorized, "unauthorized", "The request you have made requires authentication.")
	case r.URL.Path == "/dns/v2/zones" && r.Method == http.MethodGet:
		f.zones(w, r)
	case r.URL.Path == sets && r.Method == http.MethodGet:
		f.list(w, r)
	case r.URL.Path == sets && r.Method == http.MethodPost:
		f.change(w, r, "", "CREATE")
	case one && r.Method == http.MethodPut:
		f.change(w, r, id, "UPDATE")
	case one && r.Method == http.MethodDelete:
		f.change(w, r, id, "DELETE")
	default:
		f.fail(w, http.StatusNotFound, "zone_not_found", "Could not find Zone "+r.Method+" "+r.URL.Path)
	}
}

func (f *fake) authenticate(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Auth struct {
			Identity struct {
				Methods  []string `json:"methods"`
				Password struct {
					User struct {
						Name     string `json:"name"`
						Password string `json:"password"`
					} `json:"user"`
				} `json:"password"`
				Credential struct {
					ID     string `json:"id"`
					Secret string `json:"secret"`
				} `json:"application_credential"`
			} `json:"identity"`
		} `json:"auth"`
	}
	err := json.NewDecoder(r.Body).Decode(&in)
	f.mu.Lock()
	id := in.Auth.Identity
	good := id.Password.User.Name == "draas" && id.Password.User.Password == f.password ||
		id.Credential.ID == "draas" && id.Credential.Secret == f.password
	if err != nil || !good {
		f.mu.Unlock()
		f.fail(w, http.StatusUnauthorized, "unauthorized", "The request you have made requires authentication.")
		return
	}
	defer f.mu.Unlock()
	f.logins++
	token := fmt.Sprintf("gAAAAAcanary%04d", f.logins)
	f.tokens[token] = true
	w.Header().Set("X-Subject-Token", token)
	f.write(w, http.StatusCreated, map[string]any{"token": map[string]any{
		"methods": id.Methods, "expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		"catalog": []any{map[string]any{"type": "dns", "name": "designate", "endpoints": []any{map[string]any{
			"id": "e1", "interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": "https://" + r.Host + "/dns"}}}}}})
}

func (f *fake) zones(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := []any{}
	if r.URL.Query().Get("name") == dnstest.Zone {
		found = append(found, map[string]any{"id": zoneID, "name": dnstest.Zone})
	}
	f.write(w, http.StatusOK, map[string]any{"zones": found, "links": map[string]any{}, "metadata": map[string]any{"total_count": len(found)}})
}

// age lets the worker have done its part.
func (f *fake) age() {
	kept := f.sets[:0]
	for _, s := range f.sets {
		switch {
		case f.stuck != "" && s.Action != "NONE":
			s.Status = f.stuck
		case time.Now().Before(s.active):
			s.Status = "PENDING"
		case s.Action == "DELETE":
			continue
		default:
			s.Status, s.Action = "ACTIVE", "NONE"
		}
		kept = append(kept, s)
	}
	f.sets = kept
}

func (f *fake) list(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.age()
	q := r.URL.Query()
	found := []rrset{}
	for _, s := range f.sets {
		if strings.EqualFold(s.Name, q.Get("name")) {
			found = append(found, s)
		}
	}
	total := len(found)
	if i := slices.IndexFunc(found, func(s rrset) bool { return s.ID == q.Get("marker") }); i >= 0 {
		found = found[i+1:]
	}
	links := map[string]any{"self": "https://" + r.Host + r.URL.String()}
	if len(found) > f.page {
		found = found[:f.page]
		q.Set("marker", found[f.page-1].ID)
		links["next"] = "https://" + r.Host + r.URL.Path + "?" + q.Encode()
	}
	out := map[string]any{"recordsets": found, "links": links, "metadata": map[string]any{"total_count": total}}
	if f.lie != nil {
		f.lie(out)
	}
	f.write(w, http.StatusOK, out)
}

func (f *fake) change(w http.ResponseWriter, r *http.Request, id, action string) {
	var in rrset
	if action != "DELETE" {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			f.fail(w, http.StatusBadRequest, "invalid_json", "Invalid JSON")
			return
		}
	}
	f.mu.Lock()
	status, kind, message := http.StatusAccepted, "", ""
	i := slices.IndexFunc(f.sets, func(s rrset) bool { return s.ID == id })
	var set *rrset
	switch {
	case action == "CREATE":
		set, kind, message = f.create(in)
		status = map[bool]int{true: http.StatusCreated, false: http.StatusConflict}[set != nil]
	case i < 0 || f.sets[i].Action == "DELETE":
		status, kind, message = http.StatusNotFound, "recordset_not_found", "Could not find RecordSet"
	case f.managed:
		status, kind, message = http.StatusBadRequest, "bad_request", "Managed records may not be updated"
	case action != "DELETE" && len(in.Records) == 0:
		status, kind, message = http.StatusBadRequest, "invalid_object", "Provided object does not match schema"
	default:
		set = &f.sets[i]
		if action == "UPDATE" {
			set.Records, set.TTL = in.Records, in.TTL
		}
	}
	if set == nil {
		f.mu.Unlock()
		f.fail(w, status, kind, message)
		return
	}
	set.Action, set.Status, set.active = action, "PENDING", time.Now().Add(f.behind)
	f.publish()
	f.write(w, status, set)
	f.mu.Unlock()
}

func (f *fake) create(in rrset) (*rrset, string, string) {
	for _, s := range f.sets {
		if s.Name == in.Name && s.Type == in.Type {
			return nil, "duplicate_recordset", "Duplicate RecordSet"
		}
		if s.Name == in.Name && (s.Type == "CNAME" || in.Type == "CNAME") {
			return nil, "invalid_recordset_location", "CNAME recordsets may not share a name with any other records"
		}
	}
	if in.TTL == nil {
		ttl := 3600
		in.TTL = &ttl
	}
	return f.add(in), "", ""
}
