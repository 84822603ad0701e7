package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// Kinds of Swift's.
const (
	Container syncer.Kind = "container"
	Object    syncer.Kind = "object"
)

var objectStore = api{service: "object-store"}

func objectKinds() []handler {
	w := &swift{}
	return []handler{containers{w}, objects{w}}
}

// swift is what the kinds of one side's object store share.
type swift struct {
	mu       sync.Mutex
	about    *capabilities
	services map[string]bool // projects of such a name: whether they are the services'
}

// serviceProjects are what the project is called in which the services have
// their own users: Glance keeps images in its containers, where it stores them in
// Swift, and those come as images.
var serviceProjects = []string{"service", "services"}

// ofServices tells whether a project is that of the services.
func (w *swift) ofServices(ctx context.Context, s *Side, project string) (bool, error) {
	s.mu.Lock()
	name := s.names[project]
	s.mu.Unlock()
	if !slices.Contains(serviceProjects, name) {
		return false, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if own, known := w.services[project]; known {
		return own, nil
	}
	o, err := s.kinds[Project].read(ctx, s, syncer.Object{Key: syncer.Key{Kind: Project, ID: project}})
	if err != nil {
		return false, err
	}
	if w.services == nil {
		w.services = make(map[string]bool)
	}
	w.services[project] = o.Stance == syncer.Given
	return o.Stance == syncer.Given, nil
}

// capabilities are what an object store says it can do.
type capabilities struct {
	known       bool            // it said anything
	policies    map[string]bool // by name: whether it is the default
	large       bool            // static large objects
	versions    bool            // of a container's objects
	archives    bool            // the same, the old way
	maxFile     int64           // bytes of one upload; 0: not known
	maxSegments int64
}

// An account is where a project's containers are.
type account struct {
	c       *gophercloud.ServiceClient
	project string
	base    string // its address, without a slash behind it
}

// account of a project. The endpoint is the account of our own: the others'
// differ in the project's id.
func (s *Side) account(project string) (account, error) {
	c, err := s.client(objectStore.service)
	if err != nil {
		return account{}, err
	}
	base, own := strings.TrimSuffix(c.ServiceURL(), "/"), s.session.Identity().ProjectID
	if project != own {
		prefix, ok := strings.CutSuffix(base, own)
		if !ok || own == "" {
			return account{}, errors.New("the object store's endpoint does not name the account of our project, so that of another is not known")
		}
		base = prefix + url.PathEscape(project)
	}
	return account{c, project, base}, nil
}

// split takes an ID apart: PROJECT/CONTAINER or PROJECT/CONTAINER/OBJECT. A
// container's name has no slash, an object's may begin with one.
func split(id string) (project, container, object string) {
	project, rest, _ := strings.Cut(id, "/")
	container, object, _ = strings.Cut(rest, "/")
	return project, container, object
}

// at is the account that an ID stands in, and the address of what it names.
func (s *Side) at(id string) (account, string, error) {
	project, rest, ok := strings.Cut(id, "/")
	if !ok || project == "" || rest == "" {
		return account{}, "", fmt.Errorf("%q names no project and container", id)
	}
	a, err := s.account(project)
	return a, a.base + "/" + escape(rest), err
}

// escape writes a name for a path. All but slashes and what never means anything
// is escaped, as "?", "#", "%" and what is no ASCII.
func escape(name string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~/", c) >= 0:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

// ask makes a request without a body, and gives the answer's header.
func (a account) ask(ctx context.Context, method, address string, header map[string]string) (http.Header, error) {
	return call(ctx, a.c, objectStore, method, address, header, nil, nil)
}

// denied says which role is missing.
func (a account) denied(err error) error {
	if !cloud.Denied(err) {
		return err
	}
	return fmt.Errorf("the account of project %s is closed to these credentials: they need the role ResellerAdmin, as Swift's reseller_admin_role names it: %w", a.project, err)
}

// elsewhere tells whether a refusal comes from another than the object store: a
// proxy that leads nowhere says "not found" as well.
func elsewhere(err error) bool {
	var code gophercloud.ErrUnexpectedResponseCode
	return errors.As(err, &code) && code.ResponseHeader.Get("X-Trans-Id") == "" && code.ResponseHeader.Get("X-Openstack-Request-Id") == ""
}

// statusOf is an error's, of a cloud's answer; else 0.
func statusOf(err error) int {
	var e *cloud.Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// Counters, which come with listings.
const (
	containerCount = "X-Account-Container-Count"
	objectCount    = "X-Container-Object-Count"
)

// slack is how far a listing of many pages may fall short of the count that
// came with it: what was deleted meanwhile, in objects and as a share.
const (
	slackObjects = 10
	slackShare   = 100
)

// names reads a listing in order, page by page, by the last name of the page
// before, and gives the header of the first. The service says with each page how
// much there is: with less the listing is not complete; with more the counter is
// behind, as that of a container in shards may be, and an empty page tells.
func (a account) names(ctx context.Context, address, counter string, query url.Values, each func(row) error) (about http.Header, err error) {
	marker, first, n, r := "", int64(-1), int64(0), make(row)
	for pages := 1; ; pages++ {
		query = mapsClone(query)
		query.Set("format", "json")
		if marker != "" {
			query.Set("marker", marker)
		}
		text, header, err := page(ctx, a.c, objectStore, address+"?"+query.Encode())
		if err != nil {
			return nil, err
		}
		if pages == 1 {
			about = header
		}
		if len(text) == 0 { // of 204
			text = []byte("[]")
		}
		last, rows := marker, 0
		err = elements(text, func(text []byte) error {
			rows++
			if err := decodeSome(text, nil, r); err != nil {
				return err
			}
			name := r.text("name")
			if name <= last { // of a page before
				return nil
			}
			last = name
			n++
			return each(r)
		})
		if err != nil {
			return nil, err
		}
		if last == marker && rows > 0 {
			return nil, fmt.Errorf("the service leads in a circle, at %q", marker)
		}
		count, ok := counted(header, counter)
		if first < 0 {
			first = count
		}
		marker = last
		// With a prefix the count is of more than what is listed.
		whole := query.Get("prefix") == ""
		switch {
		case rows > 0 && !(ok && whole && n == count):
			continue // there may be more
		case !ok || !whole || n >= min(first, count):
			return about, nil
		}
		return about, a.short(ctx, address, marker, n, min(first, count), pages)
	}
}

func counted(h http.Header, counter string) (int64, bool) {
	n, err := strconv.ParseInt(h.Get(counter), 10, 64)
	return n, err == nil && n >= 0
}

// short says whether a listing that has n of so many rows has been cut off. Of
// one page both are of one moment. Of several some may be gone by now, and an
// account counts containers that it does not show, at most one beside each (for
// its versions): then nothing may stand behind the last.
func (a account) short(ctx context.Context, address, last string, n, count int64, pages int) error {
	err := fmt.Errorf("the listing has %d of %d rows", n, count)
	switch {
	case address == a.base && count <= 2*n:
	case address != a.base && pages > 2 && count-n <= slackObjects+count/slackShare:
	default:
		return err
	}
	var page []row
	query := url.Values{"format": {"json"}, "limit": {"1"}, "reverse": {"true"}}
	if _, e := call(ctx, a.c, objectStore, http.MethodGet, address+"?"+query.Encode(), nil, nil, &page); e != nil {
		return e
	}
	if len(page) == 1 && page[0].text("name") > last {
		return err
	}
	return nil
}

// capabilities asks once what the object store can do. One that does not say is
// taken for Swift with its defaults.
func (w *swift) capabilities(ctx context.Context, s *Side) (capabilities, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.about != nil {
		return *w.about, nil
	}
	c, err := s.client(objectStore.service)
	if err != nil {
		return capabilities{}, err
	}
	var answer map[string]row
	address := infoAddress(c.ServiceURL())
	_, err = call(ctx, c, objectStore, http.MethodGet, address, nil, nil, &answer)
	switch status := statusOf(err); {
	case err == nil:
	case status/100 == 4 && status != http.StatusTooManyRequests && status != http.StatusUnauthorized:
		w.about = &capabilities{large: true, versions: true, archives: true, maxFile: defaultMaxFile, maxSegments: defaultMaxSegments}
		return *w.about, nil
	default:
		return capabilities{}, err
	}
	w.about = readCapabilities(answer)
	return *w.about, nil
}

// What Swift has unless it is told otherwise.
const (
	defaultMaxFile     = 5 << 30 // bytes; Swift's own is 2 more
	defaultMaxSegments = 1000
)

func readCapabilities(answer map[string]row) *capabilities {
	about := &capabilities{known: true, policies: make(map[string]bool), maxFile: defaultMaxFile, maxSegments: defaultMaxSegments}
	if n, ok := answer["swift"].whole("max_file_size"); ok && n > 0 {
		about.maxFile = n
	}
	for _, p := range answer["swift"].rows("policies") {
		about.policies[p.text("name")] = p.yes("default")
	}
	slo, large := answer["slo"]
	about.large = large
	_, about.versions = answer["object_versioning"]
	_, about.archives = answer["versioned_writes"]
	if n, ok := slo.whole("max_manifest_segments"); ok && n >= 1 {
		about.maxSegments = n
	}
	return about
}

// infoAddress is beside the version that the accounts are under.
func infoAddress(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return endpoint
	}
	before, _, _ := strings.Cut(u.Path, "/v1")
	return u.Scheme + "://" + u.Host + before + "/info"
}

// ticks is a time of Swift's as its headers have it, in hundred thousandths of a
// second; what cannot be read stays as it is.
func ticks(stamp string) string {
	stamp, _, _ = strings.Cut(stamp, "_")
	seconds, rest, _ := strings.Cut(stamp, ".")
	return seconds + "." + (rest + "00000")[:5]
}

// listedTicks is ticks of a time as listings have it.
func listedTicks(stamp string) string {
	t, err := time.Parse("2006-01-02T15:04:05.999999", strings.TrimSuffix(stamp, "Z"))
	if err != nil {
		return stamp
	}
	return fmt.Sprintf("%d.%05d", t.Unix(), t.Nanosecond()/10000)
}
