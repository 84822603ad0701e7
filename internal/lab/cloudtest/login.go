package cloudtest

import (
	"context"
	"net/http"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
)

func loginFacts() map[string]func(*fact) {
	return map[string]func(*fact){
		"an application credential opens its project and nothing else": appCredential,
		"the system can be a token's scope":                            systemScope,
		"a domain can be a token's scope":                              domainScope,
		"a role through a group opens a project":                       groupRole,
		"a token tells when it ends":                                   tokenEnds,
		"a revoked token is 401":                                       tokenRevoked,
		"a disabled project cannot be entered":                         projectDisabled,
		"a member may not administer":                                  memberMayNot,
		"a catalog's block storage and objects name the project":       catalogProject,
		"without its database Keystone lets nobody in":                 keystoneOutage,
	}
}

// keystoneOutage: what services have been told of a token they believe for five
// minutes; of one that they do not know Glance and Swift say 401, as if it were
// no good.
func keystoneOutage(f *fact) {
	stays := *f.Clients
	stays.options.AllowReauth = false // which would hide the 401
	fresh, err := stays.In(f.ctx, f.Project)
	f.ok(err)
	f.call(f.Network, "GET", "networks?name="+f.name("none"), nil, http.StatusOK)
	stopped := true // also when that has gone wrong half way
	start := func(ctx context.Context) (err error) {
		if stopped {
			err = f.KeystoneDatabase(ctx, true)
			stopped = err != nil
		}
		return err
	}
	f.later(start)
	f.ok(f.KeystoneDatabase(f.ctx, false))
	f.call(fresh.Identity, "GET", "projects", nil, http.StatusInternalServerError)
	if _, err := f.In(f.ctx, f.Project); err == nil || codeOf(err) != 0 && codeOf(err) < http.StatusInternalServerError {
		f.Errorf("a login: %v", err)
	}
	f.call(f.Network, "GET", "networks?name="+f.name("none"), nil, http.StatusOK)
	for _, ask := range []struct {
		client *gophercloud.ServiceClient
		path   string
		status int
	}{
		{fresh.Network, "networks", http.StatusServiceUnavailable}, {fresh.Compute, "flavors", http.StatusServiceUnavailable},
		{fresh.Block, "types", http.StatusServiceUnavailable}, {fresh.DNS, "zones", http.StatusServiceUnavailable},
		{fresh.Image, "images", http.StatusUnauthorized}, {fresh.Object, "box", http.StatusUnauthorized},
	} {
		f.raw(ask.client, "GET", ask.path, nil, nil, ask.status)
	}
	f.ok(start(f.ctx))
	f.until("somebody can log in", func() bool {
		_, err := f.In(f.ctx, f.Project)
		return err == nil
	})
	f.raw(fresh.Image, "GET", "images", nil, nil, http.StatusOK) // the token was good all the time
}

// enterWith logs in with options of its own.
func (f *fact) enterWith(options gophercloud.AuthOptions) (*gophercloud.ServiceClient, error) {
	f.Helper()
	options.IdentityEndpoint = f.options.IdentityEndpoint
	provider, err := openstack.AuthenticatedClient(f.ctx, options)
	if err != nil {
		return nil, err
	}
	return openstack.NewIdentityV3(provider, gophercloud.EndpointOpts{Region: f.endpoint.Region})
}

func appCredential(f *fact) {
	u, p := f.newUser("u"), f.newProject("p")
	f.enter(u.ID, p.ID)
	c, err := f.As(f.ctx, u.ID, "right-"+f.mark, p.ID)
	f.ok(err)
	cred, err := applicationcredentials.Create(f.ctx, c.Identity, u.ID, applicationcredentials.CreateOpts{Name: f.name("cred"), Secret: "s-" + f.mark}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error {
		return applicationcredentials.Delete(ctx, c.Identity, u.ID, cred.ID).ExtractErr()
	})
	inside, err := f.enterWith(gophercloud.AuthOptions{ApplicationCredentialID: cred.ID, ApplicationCredentialSecret: "s-" + f.mark})
	f.ok(err)
	project, _, err := scopeOf(inside.ProviderClient)
	f.ok(err)
	same(f, "its project", project, p.ID)
	if _, err := f.enterWith(gophercloud.AuthOptions{ApplicationCredentialID: cred.ID, ApplicationCredentialSecret: "wrong"}); err == nil {
		f.Fatal("a wrong secret opens")
	}
	listed := list(f, applicationcredentials.List(c.Identity, u.ID, nil), applicationcredentials.ExtractApplicationCredentials)
	same(f, "credentials", len(listed), 1)
	same(f, "the secret", listed[0].Secret, "")
}

func systemScope(f *fact) {
	u := f.newUser("u")
	login := gophercloud.AuthOptions{UserID: u.ID, Password: "right-" + f.mark, Scope: &gophercloud.AuthScope{System: true}}
	if _, err := f.enterWith(login); codeOf(err) != http.StatusUnauthorized {
		f.Fatalf("without a role: %v", err)
	}
	f.ok(roles.Assign(f.ctx, f.Identity, f.role("reader"), roles.AssignOpts{UserID: u.ID, System: true}).ExtractErr())
	_, err := f.enterWith(login)
	f.ok(err)
}

func domainScope(f *fact) {
	u := f.newUser("u")
	login := gophercloud.AuthOptions{UserID: u.ID, Password: "right-" + f.mark, Scope: &gophercloud.AuthScope{DomainID: "default"}}
	if _, err := f.enterWith(login); codeOf(err) != http.StatusUnauthorized {
		f.Fatalf("without a role: %v", err)
	}
	f.ok(roles.Assign(f.ctx, f.Identity, f.role("member"), roles.AssignOpts{UserID: u.ID, DomainID: "default"}).ExtractErr())
	_, err := f.enterWith(login)
	f.ok(err)
}

func groupRole(f *fact) {
	u, g, p := f.newUser("u"), f.newGroup("g"), f.newProject("p")
	f.ok(users.AddToGroup(f.ctx, f.Identity, g.ID, u.ID).ExtractErr())
	f.ok(roles.Assign(f.ctx, f.Identity, f.role("member"), roles.AssignOpts{GroupID: g.ID, ProjectID: p.ID}).ExtractErr())
	_, err := f.As(f.ctx, u.ID, "right-"+f.mark, p.ID)
	f.ok(err)
	same(f, "projects of the user", len(list(f, users.ListProjects(f.Identity, u.ID), projects.ExtractProjects)), 1)
}

func tokenEnds(f *fact) {
	result, isLogin := f.Identity.GetAuthResult().(tokens.CreateResult)
	same(f, "the result of a login", isLogin, true)
	t, err := result.ExtractToken()
	f.ok(err)
	if d := time.Until(t.ExpiresAt); d <= 0 {
		f.Fatalf("it ended %v ago", -d)
	}
	again, err := tokens.Get(f.ctx, f.Identity, t.ID).ExtractToken()
	f.ok(err)
	same(f, "its end when asked again", again.ExpiresAt.Equal(t.ExpiresAt), true)
}

func tokenRevoked(f *fact) {
	u, p := f.newUser("u"), f.newProject("p")
	f.enter(u.ID, p.ID)
	c, err := f.As(f.ctx, u.ID, "right-"+f.mark, p.ID)
	f.ok(err)
	f.ok(tokens.Revoke(f.ctx, f.Identity, c.Identity.Token()).Err)
	_, err = users.Get(f.ctx, c.Identity, u.ID).Extract()
	f.refused(err, http.StatusUnauthorized)
}

func projectDisabled(f *fact) {
	u, p, off := f.newUser("u"), f.newProject("p"), false
	f.enter(u.ID, p.ID)
	_, err := projects.Update(f.ctx, f.Identity, p.ID, projects.UpdateOpts{Enabled: &off}).Extract()
	f.ok(err)
	_, err = f.As(f.ctx, u.ID, "right-"+f.mark, p.ID)
	f.refused(err, http.StatusUnauthorized)
}

func memberMayNot(f *fact) {
	u, p := f.newUser("u"), f.newProject("p")
	f.enter(u.ID, p.ID)
	c, err := f.As(f.ctx, u.ID, "right-"+f.mark, p.ID)
	f.ok(err)
	_, err = projects.Create(f.ctx, c.Identity, projects.CreateOpts{Name: f.name("x"), DomainID: "default"}).Extract()
	f.refused(err, http.StatusForbidden)
	f.call(c.Identity, "GET", "users", nil, http.StatusForbidden)
	f.call(c.Identity, "GET", "role_assignments", nil, http.StatusForbidden)
}

func catalogProject(f *fact) {
	p := f.newProject("p")
	c := f.scoped(p.ID)
	for name, client := range map[string]*gophercloud.ServiceClient{"Block": c.Block, "Object": c.Object} {
		if client != nil && client.Endpoint == f.service(name).Endpoint {
			f.Fatalf("%s has the endpoint %s in every project", name, client.Endpoint)
		}
	}
}
