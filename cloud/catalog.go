package cloud

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
)

// kind is a type of service: the other names catalogs have for it, and what
// stands behind the endpoint in its paths.
type kind struct {
	name    string
	aliases []string // in order of preference
	// version is put behind an endpoint that has none, as the resources' base.
	version string
	// bare: requests go to the endpoint as it is if it names any version
	// (compute, volumes): what comes with it is a part of it.
	bare bool
	// project is put behind the version of an endpoint that has none.
	project bool
}

// kinds are those whose resources draas knows; another type is taken as it is.
// After the service types authority; version 2 of volumes is gone.
var kinds = []kind{
	{name: "identity", version: "v3/"},
	{name: "compute", version: "v2.1/", bare: true},
	{name: "image", version: "v2/"},
	{name: "network", aliases: []string{"networking"}, version: "v2.0/"},
	{name: "block-storage", aliases: []string{"volumev3", "block-store", "volume"}, version: "v3/", bare: true, project: true},
	{name: "dns", version: "v2/"},
	{name: "load-balancer", version: "v2.0/"},
	{name: "key-manager", version: "v1/"},
	{name: "shared-file-system", aliases: []string{"sharev2", "share"}, version: "v2/", bare: true},
	{name: "object-store"},
	{name: "orchestration"},
	{name: "placement"},
}

func kindOf(name string) kind {
	for _, k := range kinds {
		if k.name == name || slices.Contains(k.aliases, name) {
			return k
		}
	}
	return kind{name: name}
}

// canonical is the name that the service types authority has for a type.
func canonical(name string) string { return kindOf(name).name }

// place is where a service is: the base of its resources, ending in a slash.
type place struct {
	scheme, host, path string
	endpoint           string // as gophercloud wants it
}

func (p place) base() string { return p.scheme + "://" + p.host + p.path }

func parsePlace(address string) (place, error) {
	u, err := url.Parse(address)
	if err != nil {
		return place{}, errors.New("not an address")
	}
	p := path.Clean("/"+u.Path) + "/"
	if p == "//" {
		p = "/"
	}
	return place{scheme: u.Scheme, host: u.Host, path: p, endpoint: gophercloud.NormalizeURL(address)}, nil
}

// Has reports whether the cloud has a service of that type, or of one of the
// type's other names.
func (s *Session) Has(serviceType string) bool {
	_, err := s.locate(serviceType)
	return err == nil
}

// Service is gophercloud's client of a service, by its type ("image",
// "block-storage") or another name of that ("volumev3"). It is the caller's, who
// may set its Microversion. A cloud without the service gives ErrNoService.
// Nothing is asked over the network.
func (s *Session) Service(serviceType string) (*gophercloud.ServiceClient, error) {
	p, err := s.locate(serviceType)
	if err != nil {
		return nil, fmt.Errorf("cloud %s: %s: %w", s.site.cloud.Name, serviceType, err)
	}
	name := canonical(serviceType)
	s.mu.Lock()
	s.known[name] = p
	s.mu.Unlock()
	return &gophercloud.ServiceClient{ProviderClient: s.provider, Type: name, Endpoint: p.endpoint, ResourceBase: p.base(),
		MoreHeaders: map[string]string{serviceHeader: name}}, nil
}

// Services are the types in the catalog, by their first names.
func (s *Session) Services() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, e := range s.grant.catalog {
		out = append(out, canonical(e.Type))
	}
	for name := range s.site.cloud.overrides {
		out = append(out, name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// locate finds a service's place: what the file says, or the catalog.
func (s *Session) locate(serviceType string) (place, error) {
	k := kindOf(serviceType)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reload(); err != nil {
		return place{}, err
	}
	project := s.grant.identity.ProjectID
	if address, ok := s.site.cloud.overrides[k.name]; ok {
		return k.place(inProject(address, project), project)
	}
	if k.name == "identity" {
		// The catalog's may be one that is not reached from here; this one is.
		return parsePlace(s.site.cloud.AuthURL + "/v3/")
	}
	for _, name := range append([]string{k.name}, k.aliases...) {
		address, err := s.inCatalog(name)
		if errors.Is(err, ErrNoService) {
			continue
		}
		if err != nil {
			return place{}, err
		}
		if err := checkAddress(address, s.site.cloud.Plain); err != nil {
			return place{}, fmt.Errorf("its endpoint in the catalog: %w", err)
		}
		return k.place(address, project)
	}
	return place{}, fmt.Errorf("%w: no %s endpoint%s in the catalog", ErrNoService, s.site.cloud.Interface, inRegion(s.site.cloud.Region))
}

func inRegion(region string) string {
	if region == "" {
		return ""
	}
	return " for region " + region
}

// inCatalog is the address of exactly that type. The mutex is held.
func (s *Session) inCatalog(name string) (string, error) {
	found := map[string]string{} // by region
	c := s.site.cloud
	for _, entry := range s.grant.catalog {
		if entry.Type != name {
			continue
		}
		for _, e := range entry.Endpoints {
			region := cmp.Or(e.RegionID, e.Region)
			if e.Interface == string(c.Interface) && (c.Region == "" || c.Region == e.Region || c.Region == e.RegionID) && found[region] == "" {
				found[region] = e.URL
			}
		}
	}
	if len(found) > 1 {
		var regions []string
		for r := range found {
			regions = append(regions, r)
		}
		slices.Sort(regions)
		return "", fmt.Errorf("it is in the regions %q: which one? Set region_name", regions)
	}
	for _, address := range found {
		return address, nil
	}
	return "", ErrNoService
}

// place is where the resources behind an endpoint are.
func (k kind) place(address, project string) (place, error) {
	p, err := parsePlace(address)
	if err != nil || k.version == "" {
		return p, err
	}
	switch {
	case k.bare && versioned(p.path):
	case k.bare:
		p.path += k.version
		if k.project && project != "" {
			p.path += project + "/"
		}
		p.endpoint = p.base()
	default:
		// Endpoints with the version and without are told apart, as the
		// library's own do for some services only.
		if above, ok := strings.CutSuffix(p.path, "/"+k.version); ok {
			p.path = above + "/"
		}
		p.endpoint = p.base()
		p.path += k.version
	}
	return p, nil
}

// versioned reports whether a segment of a path is a version.
func versioned(path string) bool {
	for seg := range strings.SplitSeq(path, "/") {
		if rest, ok := strings.CutPrefix(seg, "v"); ok && rest != "" && strings.Trim(rest, "0123456789.") == "" {
			return true
		}
	}
	return false
}
