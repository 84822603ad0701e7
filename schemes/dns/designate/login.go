package designate

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/dns/v2/zones"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/schemes/dns"
)

func readCloud(cfg Config) (cloud.Cloud, error) {
	text, err := dns.ReadSecret(cfg.CredentialsFile)
	if err != nil {
		return cloud.Cloud{}, err
	}
	c, err := parseCloud(text, cfg.Cloud, cfg.Region)
	if err != nil {
		return cloud.Cloud{}, fmt.Errorf("read credentials: %s: %w", cfg.CredentialsFile, err)
	}
	return c, nil
}

// parseCloud reads one cloud of a clouds.yaml. The environment has no say in
// it. Its errors do not quote the text.
func parseCloud(text []byte, name, region string) (cloud.Cloud, error) {
	// What the file says of certificates is not followed: the effect has roots
	// of its own, and looks at them.
	c, err := cloud.Parse(cloud.Source{Name: name, Region: region, AllowUnverified: true}, text, nil)
	if err != nil {
		return cloud.Cloud{}, err
	}
	if err := dns.CheckEndpoint(c.AuthURL); err != nil {
		return cloud.Cloud{}, fmt.Errorf("auth_url: %w", err)
	}
	if !c.Auth().AllowReauth {
		return cloud.Cloud{}, errors.New("neither password nor application_credential_secret")
	}
	return c, nil
}

// login is a session with the cloud, kept while the credentials stay.
type login struct {
	mu     sync.Mutex
	sum    [sha256.Size]byte
	client *gophercloud.ServiceClient
	zoneID string
}

// call makes one request with the credentials of now. A token that has expired
// is renewed by the library, once.
func (s *store) call(ctx context.Context, request func(*gophercloud.ServiceClient, string) error) error {
	c, err := readCloud(s.cfg)
	if err != nil {
		return &dns.ServiceError{Kind: dns.ErrCredentials, Said: err.Error()}
	}
	client, zoneID, err := s.session(ctx, c)
	if err != nil {
		// Nothing was asked of Designate: whatever it was, there is no request
		// that could be applied late.
		f := failure(err, c.Secrets())
		if errors.Is(f, dns.ErrUnanswered) {
			f.Kind = dns.ErrBusy
			f.Said = "no session: " + f.Said
		}
		return f
	}
	if err := request(client, zoneID); err != nil {
		return failure(err, append(c.Secrets(), client.Token()))
	}
	return nil
}

func (s *store) session(ctx context.Context, c cloud.Cloud) (*gophercloud.ServiceClient, string, error) {
	s.login.mu.Lock()
	defer s.login.mu.Unlock()
	if s.login.client != nil && s.login.sum == c.Sum {
		return s.login.client, s.login.zoneID, nil
	}
	provider, err := openstack.NewClient(c.Auth().IdentityEndpoint)
	if err != nil {
		return nil, "", err
	}
	provider.HTTPClient = *s.client
	if err := openstack.Authenticate(ctx, provider, c.Auth()); err != nil {
		return nil, "", err
	}
	base := s.cfg.Endpoint
	if base == "" {
		if base, err = inCatalog(provider, c.Endpoint()); err != nil {
			return nil, "", err
		}
	}
	base = strings.TrimSuffix(gophercloud.NormalizeURL(base), "v2/")
	client := &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: base, Type: "dns", ResourceBase: base + "v2/"}
	zoneID := s.cfg.ZoneID
	if zoneID == "" {
		if zoneID, err = findZone(ctx, client, s.cfg.Zone); err != nil {
			return nil, "", err
		}
	}
	s.login.sum, s.login.client, s.login.zoneID = c.Sum, client, zoneID
	return client, zoneID, nil
}

// inCatalog is Designate's address by the catalog. The library's own way to its
// client asks the service for its versions, without a bound in time.
func inCatalog(provider *gophercloud.ProviderClient, opts gophercloud.EndpointOpts) (string, error) {
	token, ok := provider.GetAuthResult().(tokens.CreateResult)
	if !ok {
		return "", &dns.ServiceError{Kind: dns.ErrCredentials, Said: "auth_url is not of version 3"}
	}
	catalog, err := token.ExtractServiceCatalog()
	if err != nil {
		return "", err
	}
	opts.ApplyDefaults("dns")
	for _, entry := range catalog.Entries {
		if entry.Type != "dns" {
			continue
		}
		for _, e := range entry.Endpoints {
			if e.Interface == string(opts.Availability) && (opts.Region == "" || opts.Region == e.Region || opts.Region == e.RegionID) {
				if err := dns.CheckEndpoint(e.URL); err != nil {
					return "", &dns.ServiceError{Kind: dns.ErrChange, Said: "in the catalog: " + err.Error()}
				}
				return e.URL, nil
			}
		}
	}
	return "", &dns.ServiceError{Kind: dns.ErrNoZone, Said: fmt.Sprintf("no %s endpoint of type dns in the catalog for region %q", opts.Availability, opts.Region)}
}

// findZone is the id of the zone of that name.
func findZone(ctx context.Context, client *gophercloud.ServiceClient, zone string) (string, error) {
	pages, err := zones.List(client, zones.ListOpts{Name: zone}).AllPages(ctx)
	if err != nil {
		return "", err
	}
	found, err := zones.ExtractZones(pages)
	if err != nil {
		return "", err
	}
	if len(found) != 1 || !strings.EqualFold(found[0].Name, zone) {
		return "", &dns.ServiceError{Kind: dns.ErrNoZone, Said: fmt.Sprintf("%d zones of the name %s in the project", len(found), zone)}
	}
	return found[0].ID, nil
}

// kinds are the types of error of Designate's that tell more than their status.
var kinds = map[string]error{
	"recordset_not_found": dns.ErrMoved,
	"duplicate_recordset": dns.ErrMoved,
	"zone_not_found":      dns.ErrNoZone,
	"over_quota":          dns.ErrQuota,
}

// failure is what an error of the library's means.
func failure(err error, secrets []string) *dns.ServiceError {
	var own *dns.ServiceError
	if errors.As(err, &own) {
		return own
	}
	var login *gophercloud.ErrUnableToReauthenticate
	if errors.As(err, &login) && login.ErrReauth != nil {
		err = login.ErrReauth // the request itself was refused before
		f := failure(err, secrets)
		if errors.Is(f, dns.ErrUnanswered) {
			f.Kind = dns.ErrBusy
		}
		return f
	}
	var code gophercloud.ErrUnexpectedResponseCode
	if !errors.As(err, &code) {
		return &dns.ServiceError{Kind: dns.ErrUnanswered, Said: dns.Said(err.Error(), secrets...)}
	}
	f := &dns.ServiceError{Kind: dns.OfStatus(code.Actual), After: dns.RetryAfter(code.ResponseHeader, time.Now())}
	if f.Kind == nil { // a success that is none of those expected
		f.Kind = dns.ErrUnanswered
	}
	said := string(code.Body)
	var body struct {
		Type    string `json:"type"`
		Message string `json:"message"`
		Error   struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(code.Body, &body) == nil {
		said = strings.TrimSpace(body.Type + " " + body.Message + " " + body.Error.Message)
		if k := kinds[body.Type]; k != nil && code.Actual < http.StatusInternalServerError {
			f.Kind = k
		}
	}
	f.Said = dns.Said(fmt.Sprintf("status %d %s", code.Actual, said), secrets...)
	return f
}
