// Package cloudflare moves a name in a zone at Cloudflare.
//
// Its promise is none. A batch is "a single database transaction"
// (developers.cloudflare.com/api, Batch DNS Records), and ids of records are
// not used twice, so that a batch that deletes the epoch's record as it was
// read does not fit twice; every batch does. But the documentation does not say
// that a batch with an id that is gone fails as a whole, nothing guards the
// first batch, when there is no record to delete, and "the propagation of
// changes is not atomic". So requests go through a gate as well.
package cloudflare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	api "github.com/cloudflare/cloudflare-go/v6/dns"
	"github.com/cloudflare/cloudflare-go/v6/option"
	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// MinTTL is the shortest that Cloudflare takes; other than Enterprise zones are
// refused below a minute.
const MinTTL = 30 * time.Second

// Comment marks the records that draas made.
const Comment = "draas"

// DefaultLag is how long Done waits for Cloudflare's servers, which have a
// change within seconds.
const DefaultLag = 10 * time.Second

// Config describes the effect on one zone.
type Config struct {
	Zone            string // fully qualified
	ZoneID          string // 32 hexadecimal digits
	Names           []dns.Name
	CredentialsFile string // one line, an API token that may edit the zone's DNS; read anew for each request
	Endpoint        string // https URL; empty: Cloudflare's
	CA              string // file with the roots to trust; empty: the system's
	Authorities     []dns.Server
	Gate            *dns.Gate // one for all that acts on this account
	// Default of Lag: DefaultLag.
	Request, Timeout, Lag time.Duration
}

// New validates the configuration, reads the token once to see that it can, and
// returns the effect.
func New(cfg Config) (*dns.Hosted, error) {
	if cfg.Lag == 0 {
		cfg.Lag = DefaultLag
	}
	var errs []error
	if cfg.ZoneID == "" || strings.Trim(strings.ToLower(cfg.ZoneID), "0123456789abcdef") != "" {
		errs = append(errs, fmt.Errorf("zone id %q, want hexadecimal digits", cfg.ZoneID))
	}
	if cfg.Endpoint != "" {
		errs = append(errs, dns.CheckEndpoint(cfg.Endpoint))
	}
	for _, n := range cfg.Names {
		if n.TTL < MinTTL {
			errs = append(errs, fmt.Errorf("name %s: ttl %v, and Cloudflare takes none below 60s (30s in Enterprise zones)", n.Name, n.TTL))
		}
	}
	if _, err := readToken(cfg.CredentialsFile); err != nil {
		errs = append(errs, err)
	}
	client, err := dns.HTTPClient(cfg.CA)
	errs = append(errs, err)
	effect, err := dns.NewHosted(dns.HostedConfig{Zone: cfg.Zone, Names: cfg.Names, Store: &store{cfg, client},
		CompareAndSet: runbook.None, Gate: cfg.Gate, Authorities: cfg.Authorities,
		Request: cfg.Request, Timeout: cfg.Timeout, Lag: cfg.Lag})
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("cloudflare: %w", err)
	}
	return effect, nil
}

// readToken reads the token. Its errors do not quote it.
func readToken(file string) (string, error) {
	text, err := dns.ReadSecret(file)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("read credentials: %s: want one line, an API token", file)
	}
	return token, nil
}

// store is one zone.
type store struct {
	cfg    Config
	client *http.Client
}

var _ dns.Store = (*store)(nil)

// record is one record as Cloudflare tells of it.
type record struct {
	ID      string   `json:"id"`
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Content string   `json:"content"`
	TTL     int      `json:"ttl"`
	Proxied bool     `json:"proxied"`
	Comment string   `json:"comment"`
	Tags    []string `json:"tags"`
}

// value is the record's data as a zone file has it.
func (r record) value() string {
	if r.Type == "TXT" && !strings.HasPrefix(r.Content, `"`) {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(r.Content) + `"`
	}
	if r.Type == "CNAME" {
		return mdns.Fqdn(r.Content)
	}
	return r.Content
}

// answer is the envelope of every answer.
type answer struct {
	Success bool `json:"success"`
	Errors  []struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"errors"`
	Result     json.RawMessage `json:"result"`
	ResultInfo *struct {
		Page       int `json:"page"`
		TotalPages int `json:"total_pages"`
		TotalCount int `json:"total_count"`
	} `json:"result_info"`
}

// records are a page of a listing, of that name only. Without its count it is
// none.
func (a answer) records(owner string) ([]record, error) {
	var records []record
	if err := json.Unmarshal(a.Result, &records); err != nil || records == nil || a.ResultInfo == nil {
		return nil, &dns.ServiceError{Kind: dns.ErrUnanswered, Said: "a listing that is none"}
	}
	for _, r := range records {
		if mdns.CanonicalName(r.Name) != mdns.CanonicalName(owner) || r.ID == "" {
			return nil, &dns.ServiceError{Kind: dns.ErrUnanswered, Said: "a listing of other records than was asked for"}
		}
	}
	return records, nil
}

// exchange is what the library sent and got. The library's own decoding is
// lenient: what it does not find it takes for empty.
type exchange struct {
	got    bool
	status int
	header http.Header
	body   []byte
}

func (x *exchange) middleware(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
	resp, err := next(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	*x = exchange{got: true, status: resp.StatusCode, header: resp.Header, body: body}
	return resp, nil
}

// call makes one request with the token of now, and reads the answer.
func (s *store) call(request func(*api.RecordService) error) (answer, error) {
	token, err := readToken(s.cfg.CredentialsFile)
	if err != nil {
		return answer{}, &dns.ServiceError{Kind: dns.ErrCredentials, Said: err.Error()}
	}
	var x exchange
	opts := []option.RequestOption{option.WithEnvironmentProduction(), option.WithHTTPClient(s.client), option.WithAPIToken(token),
		option.WithMaxRetries(0), option.WithMiddleware(x.middleware)}
	if s.cfg.Endpoint != "" {
		opts = append(opts, option.WithBaseURL(s.cfg.Endpoint))
	}
	if err := request(api.NewRecordService(opts...)); err != nil && !x.got {
		return answer{}, &dns.ServiceError{Kind: dns.ErrUnanswered, Said: dns.Said(err.Error(), token)}
	}
	return read(x, token)
}

// read is what an answer says.
func read(x exchange, secrets ...string) (answer, error) {
	var a answer
	notJSON := json.Unmarshal(x.body, &a)
	kind := dns.OfStatus(x.status)
	if kind == nil && notJSON == nil && a.Success {
		return a, nil
	}
	f := &dns.ServiceError{Kind: dns.ErrUnanswered, After: dns.RetryAfter(x.header, time.Now())}
	if kind != nil {
		f.Kind = kind
	} else if notJSON == nil {
		f.Kind = dns.ErrChange // 200, and no success
	}
	said := []string{fmt.Sprint("status ", x.status)}
	for _, e := range a.Errors {
		said = append(said, fmt.Sprintf("%d %s", e.Code, e.Message))
		if k := kinds[e.Code]; k != nil && !errors.Is(f.Kind, dns.ErrThrottled) && !errors.Is(f.Kind, dns.ErrDown) {
			f.Kind = k
		}
	}
	f.Said = dns.Said(strings.Join(said, ", "), secrets...)
	return answer{}, f
}

// kinds are the codes of the interface that tell more than their status.
var kinds = map[int]error{
	1001:  dns.ErrNoZone,      // invalid zone identifier
	6003:  dns.ErrCredentials, // invalid request headers: the token has no token's form
	7003:  dns.ErrNoZone,      // could not route: the object identifier is invalid
	9109:  dns.ErrCredentials, // invalid access token
	9106:  dns.ErrCredentials, // missing authentication
	10000: dns.ErrPermission,  // authentication error: of a token that is valid elsewhere, too
	10429: dns.ErrThrottled,
	81044: dns.ErrMoved, // record does not exist
	81045: dns.ErrQuota,
	81053: dns.ErrMoved, // an A, AAAA, or CNAME record with that host already exists
	81054: dns.ErrMoved, // a CNAME record with that host already exists
	81057: dns.ErrMoved, // the record already exists
	81058: dns.ErrMoved, // an identical record already exists
}

// held is what stands at the name, record by record.
type held []record

// Read lists the epoch's record first: addresses that are read later are that
// epoch's, or a later one's.
func (s *store) Read(ctx context.Context, n dns.Name) (dns.Held, error) {
	var out dns.Held
	var all held
	for _, owner := range []string{dns.EpochName(n.Name), n.Name} {
		records, err := s.list(ctx, owner)
		if err != nil {
			return dns.Held{}, err
		}
		for _, r := range records {
			out.Add(n, r.Name, r.Type, []string{r.value()})
			if !replaces(n, r) {
				continue
			}
			switch {
			case r.Proxied:
				out.Bar("a proxied record", owner)
			case r.Comment != "" && r.Comment != Comment, len(r.Tags) > 0:
				out.Bar(fmt.Sprintf("a record with the comment %q and the tags %q", dns.Said(r.Comment), r.Tags), owner)
			}
		}
		all = append(all, records...)
	}
	out.Version = all
	return out, nil
}

// replaces reports whether a change would replace the record.
func replaces(n dns.Name, r record) bool {
	if mdns.CanonicalName(r.Name) == mdns.CanonicalName(dns.EpochName(n.Name)) {
		return r.Type == "TXT"
	}
	return slices.Contains([]string{"A", "AAAA", "CNAME"}, r.Type)
}

// Bounds of a listing.
const (
	perPage  = 100
	maxPages = 20
)

// list is all records at a name, or an error.
func (s *store) list(ctx context.Context, owner string) ([]record, error) {
	var p api.RecordListParams
	set(&p.ZoneID.Value, &p.ZoneID.Present, s.cfg.ZoneID)
	var name api.RecordListParamsName
	set(&name.Exact.Value, &name.Exact.Present, strings.TrimSuffix(owner, "."))
	set(&p.Name.Value, &p.Name.Present, name)
	set(&p.PerPage.Value, &p.PerPage.Present, perPage)
	var out []record
	for page := 1; page <= maxPages; page++ {
		set(&p.Page.Value, &p.Page.Present, float64(page))
		a, err := s.call(func(c *api.RecordService) error {
			_, err := c.List(ctx, p)
			return err
		})
		if err != nil {
			return nil, err
		}
		records, err := a.records(owner)
		if err != nil {
			return nil, err
		}
		out = append(out, records...)
		if page < a.ResultInfo.TotalPages {
			continue
		}
		if len(out) != a.ResultInfo.TotalCount { // pages of different states
			return nil, &dns.ServiceError{Kind: dns.ErrMoved, Said: fmt.Sprintf("%d records of %d listed", len(out), a.ResultInfo.TotalCount)}
		}
		return out, nil
	}
	return nil, &dns.ServiceError{Kind: dns.ErrUnanswered, Said: fmt.Sprintf("more than %d pages of records at %s", maxPages, owner)}
}

// set fills a field of the library's: what makes one is in its main package,
// which takes minutes to build.
func set[T any](value *T, present *bool, v T) { *value, *present = v, true }

// Settled: Cloudflare does not say.
func (s *store) Settled(context.Context, dns.Name, string) (string, error) { return "", nil }
