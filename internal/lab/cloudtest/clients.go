// Package cloudtest holds what is known of OpenStack's APIs as facts that a
// cloud either shows or does not: each is a function of gophercloud clients.
// The fake cloud and real services run the same suite, so that the fake
// cannot lie.
package cloudtest

import (
	"context"
	"fmt"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
)

// Clients of one cloud in one scope. A service that the cloud lacks is nil.
type Clients struct {
	Identity *gophercloud.ServiceClient
	Image    *gophercloud.ServiceClient
	Network  *gophercloud.ServiceClient
	Compute  *gophercloud.ServiceClient
	Block    *gophercloud.ServiceClient
	Object   *gophercloud.ServiceClient
	DNS      *gophercloud.ServiceClient

	// KeystoneDatabase stops Keystone's database, or lets it run again.
	KeystoneDatabase func(ctx context.Context, runs bool) error

	Project string // id of the token's project
	User    string // id of its user

	options  gophercloud.AuthOptions
	endpoint gophercloud.EndpointOpts
}

// Connect logs in. The options must name an administrator, who also has the
// role ResellerAdmin, in a project.
func Connect(ctx context.Context, options gophercloud.AuthOptions, endpoint gophercloud.EndpointOpts) (*Clients, error) {
	provider, err := openstack.AuthenticatedClient(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("log in at %s: %w", options.IdentityEndpoint, err)
	}
	c := &Clients{options: options, endpoint: endpoint}
	if c.Project, c.User, err = scopeOf(provider); err != nil {
		return nil, err
	}
	if c.Identity, err = openstack.NewIdentityV3(provider, endpoint); err != nil {
		return nil, fmt.Errorf("find identity: %w", err)
	}
	for _, s := range []struct {
		client **gophercloud.ServiceClient
		open   func(*gophercloud.ProviderClient, gophercloud.EndpointOpts) (*gophercloud.ServiceClient, error)
	}{
		{&c.Image, openstack.NewImageV2}, {&c.Network, openstack.NewNetworkV2}, {&c.Compute, openstack.NewComputeV2},
		{&c.Block, openstack.NewBlockStorageV3}, {&c.Object, openstack.NewObjectStorageV1}, {&c.DNS, openstack.NewDNSV2},
	} {
		client, err := s.open(provider, endpoint)
		if err == nil { // else the cloud lacks the service
			*s.client = client
		}
	}
	return c, nil
}

// In gives clients scoped to another project, entered by the same user.
func (c *Clients) In(ctx context.Context, project string) (*Clients, error) {
	options := c.options
	options.TenantID, options.TenantName = project, ""
	options.Scope = &gophercloud.AuthScope{ProjectID: project}
	return Connect(ctx, options, c.endpoint)
}

// As gives clients of another user in a project.
func (c *Clients) As(ctx context.Context, user, password, project string) (*Clients, error) {
	options := gophercloud.AuthOptions{IdentityEndpoint: c.options.IdentityEndpoint, UserID: user, Password: password,
		Scope: &gophercloud.AuthScope{ProjectID: project}}
	return Connect(ctx, options, c.endpoint)
}

// micro gives a client that speaks a microversion.
func micro(c *gophercloud.ServiceClient, version string) *gophercloud.ServiceClient {
	copied := *c
	copied.Microversion = version
	return &copied
}

// scopeOf reads project and user of a login.
func scopeOf(provider *gophercloud.ProviderClient) (project, user string, err error) {
	result, isLogin := provider.GetAuthResult().(tokens.CreateResult)
	if !isLogin {
		return "", "", fmt.Errorf("read the login: it is a %T", provider.GetAuthResult())
	}
	u, err := result.ExtractUser()
	if err != nil {
		return "", "", fmt.Errorf("read user of the login: %w", err)
	}
	p, err := result.ExtractProject()
	if err != nil {
		return "", "", fmt.Errorf("read project of the login: %w", err)
	}
	if p != nil {
		project = p.ID
	}
	return project, u.ID, nil
}
