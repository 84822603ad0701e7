package route53

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/schemes/dns/dnstest"
)

const (
	zoneID = "Z0123456789ABCDEFGHIJ"
	keyID  = "AKIAIOSFODNN7EXAMPLE"
	xmlns  = "https://route53.amazonaws.com/doc/2013-04-01/"
)

// fake is as much of Route 53's interface as draas uses: it checks signatures,
// applies batches whole or not at all, and is in sync only after a while.
type fake struct {
	dns *dnstest.DNS

	mu      sync.Mutex
	secret  string
	rotated int
	echo    bool
	page    int // record sets on a page
	sets    []rrset
	changes map[string]time.Time // by id: when it will be in sync
	behind  time.Duration        // until a change is in sync
	busy    bool                 // with a prior request
	never   bool                 // takes no batch
	batches int
}

type rrset struct {
	XMLName       xml.Name `xml:"ResourceRecordSet"`
	Name          string
	Type          string
	SetIdentifier string  `xml:",omitempty"`
	Weight        *int    `xml:",omitempty"`
	TTL           *int    `xml:",omitempty"`
	Values        []value `xml:"ResourceRecords>ResourceRecord"`
	AliasTarget   *alias
	HealthCheckID string `xml:"HealthCheckId,omitempty"`
	PolicyID      string `xml:"TrafficPolicyInstanceId,omitempty"`
}

type value struct{ Value string }

// texts are the values, sorted.
func (s rrset) texts() []string {
	var out []string
	for _, v := range s.Values {
		out = append(out, v.Value)
	}
	slices.Sort(out)
	return out
}

type alias struct {
	HostedZoneID         string `xml:"HostedZoneId"`
	DNSName              string
	EvaluateTargetHealth bool
}

func newFake(_ testing.TB, d *dnstest.DNS) *fake {
	f := &fake{dns: d, page: 2, changes: make(map[string]time.Time), behind: time.Millisecond}
	f.Rotate()
	return f
}

// Credentials implements dnstest.Fake.
func (f *fake) Credentials() (text, secret string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("# of the test\n[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", keyID, f.secret), f.secret
}

// Rotate implements dnstest.Fake.
func (f *fake) Rotate() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rotated++
	f.secret = fmt.Sprintf("canary/wJalrXUtnFEMI+K7MDENG/%08d", f.rotated)
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
		i := f.find(rrset{Name: h.Name, Type: mdns.TypeToString[h.Rrtype]})
		if i < 0 {
			f.sets = append(f.sets, rrset{Name: h.Name, Type: mdns.TypeToString[h.Rrtype], TTL: &ttl})
			i = len(f.sets) - 1
		}
		f.sets[i].Values = append(slices.Clone(f.sets[i].Values), value{text})
	}
	f.publish()
}

// seedSet puts a record set there as it is.
func (f *fake) seedSet(s rrset) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sets = append(f.sets, s)
	f.publish()
}

// Dump implements dnstest.Fake.
func (f *fake) Dump() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for _, s := range f.sets {
		line := fmt.Sprintf("%s %s %s %v", s.Name, s.Type, s.SetIdentifier, s.texts())
		if s.TTL != nil {
			line += fmt.Sprint(" ", *s.TTL)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// find is where the set stands, or -1.
func (f *fake) find(s rrset) int {
	return slices.IndexFunc(f.sets, func(o rrset) bool {
		return strings.EqualFold(o.Name, s.Name) && o.Type == s.Type && o.SetIdentifier == s.SetIdentifier
	})
}

// publish brings the sets to the authorities, sorted as they are listed.
func (f *fake) publish() {
	key := func(s rrset) string {
		labels := mdns.SplitDomainName(s.Name)
		slices.Reverse(labels)
		return strings.Join(labels, ".") + ". " + s.Type + " " + s.SetIdentifier
	}
	slices.SortFunc(f.sets, func(a, b rrset) int { return strings.Compare(key(a), key(b)) })
	var records []mdns.RR
	for _, s := range f.sets {
		for _, v := range s.texts() {
			ttl := 300
			if s.TTL != nil {
				ttl = *s.TTL
			}
			if rr, err := mdns.NewRR(fmt.Sprintf("%s %d IN %s %s", s.Name, ttl, s.Type, v)); err == nil {
				records = append(records, rr)
			}
		}
	}
	f.dns.Publish(records)
}

// Writes implements dnstest.Backend.
func (f *fake) Writes(r *http.Request) bool { return r.Method == http.MethodPost }

// Refuse implements dnstest.Backend.
func (f *fake) Refuse(w http.ResponseWriter) {
	f.fail(w, http.StatusForbidden, "AccessDenied", "User is not authorized to perform route53:ChangeResourceRecordSets")
}

// Throttle implements dnstest.Backend.
func (f *fake) Throttle(w http.ResponseWriter, seconds string) {
	if seconds != "" {
		w.Header().Set("Retry-After", seconds)
	}
	f.fail(w, http.StatusBadRequest, "Throttling", "Rate exceeded")
}

func (f *fake) fail(w http.ResponseWriter, status int, code, message string) {
	f.mu.Lock()
	if f.echo {
		message += " " + f.secret
	}
	f.mu.Unlock()
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0"?><ErrorResponse xmlns="%s"><Error><Type>Sender</Type><Code>%s</Code>`+
		`<Message>%s</Message></Error><RequestId>b25f48e8-84fd-11e6-80d9-574e0c4664cb</RequestId></ErrorResponse>`, xmlns, code, message)
}

// ServeHTTP implements http.Handler.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if !f.signed(r, body) {
		f.fail(w, http.StatusForbidden, "SignatureDoesNotMatch",
			"The request signature we calculated does not match the signature you provided.")
		return
	}
	switch path := r.URL.Path; {
	case path == "/2013-04-01/hostedzone/"+zoneID+"/rrset" && r.Method == http.MethodGet:
		f.list(w, r)
	case (path == "/2013-04-01/hostedzone/"+zoneID+"/rrset" || path == "/2013-04-01/hostedzone/"+zoneID+"/rrset/") && r.Method == http.MethodPost:
		f.change(w, body)
	case strings.HasPrefix(path, "/2013-04-01/change/"):
		f.status(w, strings.TrimPrefix(path, "/2013-04-01/change/"))
	default:
		f.fail(w, http.StatusNotFound, "NoSuchHostedZone", "No hosted zone found with ID: "+path)
	}
}

// signed checks the signature, version 4 (docs.aws.amazon.com, "Create a signed
// AWS API request").
func (f *fake) signed(r *http.Request, body []byte) bool {
	var credential, headers, signature string
	for field := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ", ") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "Credential":
			credential = value
		case "SignedHeaders":
			headers = value
		case "Signature":
			signature = value
		}
	}
	id, scope, _ := strings.Cut(credential, "/")
	parts := strings.Split(scope, "/")
	if id != keyID || len(parts) != 4 || parts[1] != "us-east-1" || parts[2] != "route53" || !strings.Contains(headers, "host") {
		return false
	}
	sum := func(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) }
	canonical := r.Method + "\n" + r.URL.EscapedPath() + "\n" + strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20") + "\n"
	for h := range strings.SplitSeq(headers, ";") {
		value := r.Header.Get(h)
		switch h {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(len(body))
		}
		canonical += h + ":" + strings.TrimSpace(value) + "\n"
	}
	canonical += "\n" + headers + "\n" + sum(body)
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		_, _ = h.Write([]byte(text)) // never fails
		return h.Sum(nil)
	}
	f.mu.Lock()
	key := []byte("AWS4" + f.secret)
	f.mu.Unlock()
	for _, p := range parts {
		key = mac(key, p)
	}
	want := mac(key, "AWS4-HMAC-SHA256\n"+r.Header.Get("X-Amz-Date")+"\n"+scope+"\n"+sum([]byte(canonical)))
	return hmac.Equal([]byte(hex.EncodeToString(want)), []byte(signature))
}

func (f *fake) list(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	type response struct {
		XMLName     xml.Name `xml:"ListResourceRecordSetsResponse"`
		Sets        []rrset  `xml:"ResourceRecordSets>ResourceRecordSet"`
		IsTruncated bool
		MaxItems    int
		NextName    string `xml:"NextRecordName,omitempty"`
		NextType    string `xml:"NextRecordType,omitempty"`
		NextID      string `xml:"NextRecordIdentifier,omitempty"`
	}
	q := r.URL.Query()
	from := slices.IndexFunc(f.sets, func(s rrset) bool {
		return strings.EqualFold(s.Name, q.Get("name")) && s.Type >= q.Get("type") && s.SetIdentifier >= q.Get("identifier")
	})
	out := response{MaxItems: f.page}
	if from < 0 { // those behind the name
		from = slices.IndexFunc(f.sets, func(s rrset) bool { return !mdns.IsSubDomain(s.Name, q.Get("name")) && s.Name > q.Get("name") })
	}
	if from >= 0 {
		out.Sets = f.sets[from:]
		if len(out.Sets) > f.page {
			next := out.Sets[f.page]
			out.Sets, out.IsTruncated = out.Sets[:f.page], true
			out.NextName, out.NextType, out.NextID = next.Name, next.Type, next.SetIdentifier
		}
	}
	f.write(w, out)
}

func (f *fake) write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "text/xml")
	_, _ = io.WriteString(w, xml.Header)
	_ = xml.NewEncoder(w).Encode(v) // the client may be gone
}

type changeInfo struct {
	XMLName     xml.Name
	ID          string    `xml:"ChangeInfo>Id"`
	Status      string    `xml:"ChangeInfo>Status"`
	SubmittedAt time.Time `xml:"ChangeInfo>SubmittedAt"`
}

func (f *fake) change(w http.ResponseWriter, body []byte) {
	var in struct {
		XMLName xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ChangeResourceRecordSetsRequest"`
		Changes []struct {
			Action string
			Set    rrset `xml:"ResourceRecordSet"`
		} `xml:"ChangeBatch>Changes>Change"`
	}
	if err := xml.Unmarshal(body, &in); err != nil {
		f.fail(w, http.StatusBadRequest, "InvalidInput", "not a change batch")
		return
	}
	f.mu.Lock()
	if f.busy {
		f.mu.Unlock()
		f.fail(w, http.StatusBadRequest, "PriorRequestNotComplete", "The request was rejected because Route 53 was still processing a prior request.")
		return
	}
	before := slices.Clone(f.sets)
	var problems []string
	if f.never {
		problems = append(problems, "InvalidResourceRecord: not that one")
	}
	for _, c := range in.Changes {
		if problem := f.apply(c.Action, c.Set); problem != "" {
			problems = append(problems, problem)
		}
	}
	if len(problems) > 0 {
		f.sets = before
		f.mu.Unlock()
		f.fail(w, http.StatusBadRequest, "InvalidChangeBatch", "["+strings.Join(problems, ", ")+"]")
		return
	}
	f.batches++
	id := fmt.Sprintf("/change/C%06d", f.batches)
	f.changes[strings.TrimPrefix(id, "/change/")] = time.Now().Add(f.behind)
	f.publish()
	f.mu.Unlock()
	f.write(w, changeInfo{XMLName: xml.Name{Local: "ChangeResourceRecordSetsResponse"}, ID: id, Status: "PENDING", SubmittedAt: time.Now().UTC()})
}

// apply makes one change, or says why not, in the words of Route 53.
func (f *fake) apply(action string, s rrset) string {
	what := fmt.Sprintf("[name='%s', type='%s']", s.Name, s.Type)
	i := f.find(s)
	switch action {
	case "DELETE":
		if i < 0 {
			return "Tried to delete resource record set " + what + " but it was not found"
		}
		held := f.sets[i]
		same := slices.Equal(held.texts(), s.texts())
		if !same || (held.TTL == nil) != (s.TTL == nil) || held.TTL != nil && *held.TTL != *s.TTL {
			return "Tried to delete resource record set " + what + " but the values provided do not match the current values"
		}
		f.sets = slices.Delete(slices.Clone(f.sets), i, i+1)
		return ""
	case "CREATE":
		if i >= 0 {
			return "Tried to create resource record set " + what + " but it already exists"
		}
	default:
		return "action " + action
	}
	if len(s.Values) == 0 || s.TTL == nil || len(slices.Compact(s.texts())) != len(s.Values) {
		return "Invalid resource record set " + what
	}
	for _, o := range f.sets {
		if strings.EqualFold(o.Name, s.Name) && (o.Type == "CNAME" || s.Type == "CNAME") {
			return "RRSet of type " + s.Type + " with DNS name " + s.Name + " is not permitted as it conflicts with other records with the same DNS name"
		}
	}
	f.sets = append(f.sets, s)
	return ""
}

func (f *fake) status(w http.ResponseWriter, id string) {
	f.mu.Lock()
	sync, known := f.changes[id]
	f.mu.Unlock()
	if !known {
		f.fail(w, http.StatusNotFound, "NoSuchChange", "Could not find resource with ID: "+id)
		return
	}
	info := changeInfo{XMLName: xml.Name{Local: "GetChangeResponse"}, ID: "/change/" + id, Status: "PENDING", SubmittedAt: time.Now().UTC()}
	if time.Now().After(sync) {
		info.Status = "INSYNC"
	}
	f.write(w, info)
}
