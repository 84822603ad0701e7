package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
)

// Options of a session. The zero value has the defaults that stand behind each.
type Options struct {
	Log       *slog.Logger // none
	UserAgent string       // "draas", before gophercloud's
	// Now tells the time of the day for Rates, in the zone in which they are
	// meant: time.Now.
	Now func() time.Time

	// Concurrency is the most requests at once at one service: 16. It begins
	// with a quarter of that, and adapts.
	Concurrency int
	// Streams is the most Downloads and Uploads at once at one service, which
	// are not counted there: 4.
	Streams int
	// Rates bound the site, and ServiceRates one service of it besides, by its
	// type. Of each the first that has the time of the day counts.
	Rates        []Rate
	ServiceRates map[string][]Rate

	// AnswerTimeout is how long one attempt of a request may take, its answer
	// included: 1 min.
	AnswerTimeout time.Duration
	// HeaderTimeout is how long a service may think about an Upload that it
	// has: 5 min.
	HeaderTimeout time.Duration
	// StallTimeout is how long a stream may stand still: 1 min.
	StallTimeout time.Duration
	// Attempts bounds how often a request is sent, and RetryFor for how long
	// after the first attempt's end another may begin: 4, 2 min.
	Attempts int
	RetryFor time.Duration
	// MaxPause bounds what a service may ask for by Retry-After: 2 min.
	MaxPause time.Duration
	// MaxAnswer bounds an answer, in octets: 64 MiB.
	MaxAnswer int64
	// Projects is how many projects' sessions are kept (Session.As): 32.
	Projects int
}

func (o Options) withDefaults() Options {
	def := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.AnswerTimeout, time.Minute)
	def(&o.HeaderTimeout, 5*time.Minute)
	def(&o.StallTimeout, time.Minute)
	def(&o.RetryFor, 2*time.Minute)
	def(&o.MaxPause, 2*time.Minute)
	for v, d := range map[*int]int{&o.Concurrency: 16, &o.Streams: 4, &o.Attempts: 4, &o.Projects: 32} {
		if *v == 0 {
			*v = d
		}
	}
	if o.MaxAnswer == 0 {
		o.MaxAnswer = 64 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.UserAgent == "" {
		o.UserAgent = "draas"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Session is us at a cloud, in one project (or domain, or the system). It may
// be used by many at once.
type Session struct {
	site     *site
	auth     gophercloud.AuthOptions
	provider *gophercloud.ProviderClient

	mu    sync.Mutex
	grant grant            // of the token that is used
	known map[string]place // services that were handed out, by type
	login place            // where tokens come from
	stale string           // a token that was refused to an upload
}

// grant is what a token says.
type grant struct {
	token    string
	identity Identity
	catalog  []tokens.CatalogEntry
	lifetime time.Duration // when it was fresh
}

// Identity is who a token says we are.
type Identity struct {
	UserID, UserName, UserDomainID string
	// Of the project, empty for a token of a domain or the system.
	ProjectID, ProjectName, ProjectDomainID string
	DomainID                                string // of a token for a domain
	System                                  bool
	Roles                                   []string // names
	Expires                                 time.Time
}

// Open logs in. The session is to be closed.
func Open(ctx context.Context, c Cloud, o Options) (*Session, error) {
	site, err := newSite(c, o.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("open cloud %s: %w", c.Name, err)
	}
	s, err := site.login(ctx, c.Auth())
	if err != nil {
		site.transport.CloseIdleConnections()
		return nil, fmt.Errorf("open cloud %s: %w", c.Name, err)
	}
	site.root = s
	id := s.Identity()
	if c.projectName != "" && id.ProjectName != c.projectName {
		s.Close()
		return nil, fmt.Errorf("open cloud %s: project_id is the project %q, and project_name is not", c.Name, id.ProjectName)
	}
	if c.Unverified {
		site.options.Log.Warn("nobody checks who answers for the cloud: verify is false", "cloud", c.Name)
	}
	return s, nil
}

// Close lets the connections go. Requests under way are not ended: that is their
// contexts' part.
func (s *Session) Close() { s.site.transport.CloseIdleConnections() }

// Cloud is what the session was opened with.
func (s *Session) Cloud() Cloud { return s.site.cloud }

// String names the cloud and the project.
func (s *Session) String() string {
	return fmt.Sprintf("%v as %s in %s", s.site.cloud, s.Identity().UserName, s.Identity().ProjectName)
}

// GoString is String: what is inside holds secrets.
func (s *Session) GoString() string { return s.String() }

// LogValue implements slog.LogValuer.
func (s *Session) LogValue() slog.Value { return slog.StringValue(s.String()) }

// login makes a session of one scope.
func (v *site) login(ctx context.Context, auth gophercloud.AuthOptions) (*Session, error) {
	provider, err := openstack.NewClient(v.cloud.AuthURL)
	if err != nil {
		return nil, errors.New("auth_url cannot be read")
	}
	s := &Session{site: v, auth: auth, provider: provider, known: make(map[string]place)}
	if s.login, err = parsePlace(v.cloud.AuthURL + "/v3/"); err != nil {
		return nil, err
	}
	provider.UserAgent.Prepend(v.options.UserAgent)
	provider.HTTPClient = http.Client{
		Transport: &chain{s},
		// A redirect would take the token along.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	// The library calls it for every failure; it never says to try again.
	provider.RetryFunc = func(_ context.Context, method, address string, opts *gophercloud.RequestOpts, err error, _ uint) error {
		return s.explain(method, address, opts, err)
	}
	// Not openstack.Authenticate: it may be led to another host by what the
	// root of the service prints.
	if err := openstack.AuthenticateV3(ctx, provider, &auth, gophercloud.EndpointOpts{}); err != nil {
		return nil, plainError(err)
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	if id := s.Identity(); id.ProjectID == "" && id.DomainID == "" && !id.System {
		return nil, errors.New("the token is for no project, domain or system: write one into the cloud's auth")
	}
	return s, nil
}

// plainError keeps an error of the library's from telling more than ours.
func plainError(err error) error {
	if e := find(err); e != nil {
		return e
	}
	return err
}

// load reads the grant of the token in use, if it is another one than before.
func (s *Session) load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reload()
}

// reload is load with the mutex held.
func (s *Session) reload() error {
	result := s.provider.GetAuthResult()
	if result == nil {
		return errors.New("no token")
	}
	token, err := result.ExtractTokenID()
	if err != nil || token == s.grant.token && token != "" {
		return err
	}
	g, err := readGrant(result)
	if err != nil {
		return err
	}
	g.token = s.provider.Token()
	s.grant = g
	return nil
}

// readGrant reads the answer that a token came with.
func readGrant(result gophercloud.AuthResult) (grant, error) {
	var body struct {
		ExpiresAt time.Time `json:"expires_at"`
		IssuedAt  time.Time `json:"issued_at"`
		User      struct {
			ID, Name string
			Domain   struct{ ID string }
		}
		Project struct {
			ID, Name string
			Domain   struct{ ID string }
		}
		Domain  struct{ ID string }
		System  map[string]bool
		Roles   []struct{ Name string }
		Catalog []tokens.CatalogEntry
	}
	var err error
	switch r := result.(type) {
	case tokens.CreateResult:
		err = r.ExtractIntoStructPtr(&body, "token")
	case tokens.GetResult:
		err = r.ExtractIntoStructPtr(&body, "token")
	default:
		err = errors.New("of another version")
	}
	if err != nil {
		return grant{}, errors.New("the identity service's answer cannot be read")
	}
	id := Identity{UserID: body.User.ID, UserName: body.User.Name, UserDomainID: body.User.Domain.ID,
		ProjectID: body.Project.ID, ProjectName: body.Project.Name, ProjectDomainID: body.Project.Domain.ID,
		DomainID: body.Domain.ID, System: body.System["all"], Expires: body.ExpiresAt}
	for _, r := range body.Roles {
		id.Roles = append(id.Roles, r.Name)
	}
	g := grant{identity: id, catalog: body.Catalog}
	if !body.IssuedAt.IsZero() {
		g.lifetime = body.ExpiresAt.Sub(body.IssuedAt)
	}
	return g, nil
}

// Identity is who the token in use says we are.
func (s *Session) Identity() Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reload(); err != nil {
		// The token before was read, so this is what it said.
		s.site.options.Log.Debug("a new token cannot be read", "cloud", s.site.cloud.Name, "err", err)
	}
	return s.grant.identity
}

// freshFor is how long a token should last when a stream begins; services ask
// once, at its beginning, and some again at its end.
const freshFor = 5 * time.Minute

// fresh renews the token if it ends soon, or was refused to a stream.
func (s *Session) fresh(ctx context.Context) error {
	token := s.provider.Token()
	s.mu.Lock()
	err := s.reload()
	ends, need := s.grant.identity.Expires, freshFor
	if l := s.grant.lifetime; l > 0 {
		need = min(need, l/2)
	}
	refused := s.stale == token
	s.mu.Unlock()
	if err != nil {
		return err
	}
	// Both ends of the comparison are of the cloud's clock.
	if !refused && (ends.IsZero() || ends.Sub(s.site.serverNow("identity")) > need) {
		return nil
	}
	return s.renew(ctx, token)
}

// renew gets a new token in the place of one. Of many who ask one does it.
func (s *Session) renew(ctx context.Context, old string) error {
	if err := s.provider.Reauthenticate(ctx, old); err != nil {
		return fmt.Errorf("renew token: %w", plainError(err))
	}
	return s.load()
}

// refuse remembers that a token was refused to a stream.
func (s *Session) refuse(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = token
}
