package cloud

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/utils"
)

// cloud is the entry, understood. Every key is asked for, or refused by name.
func (e *entry) cloud(s Source) (Cloud, error) {
	c := Cloud{Name: s.Name, Plain: s.AllowPlain, overrides: make(map[string]string)}
	for _, step := range []func(*Cloud, Source) error{e.whole, e.where, e.who, e.scope, e.trust, e.endpoints} {
		if err := step(&c, s); err != nil {
			return Cloud{}, err
		}
	}
	if err := e.strangers(); err != nil {
		return Cloud{}, err
	}
	return c, nil
}

// whole refuses what leads to other files, and versions that are not spoken.
func (e *entry) whole(*Cloud, Source) error {
	for _, k := range []string{"profile", "cloud"} {
		if v, err := e.text(k); err != nil || v != "" {
			return fmt.Errorf("%s: vendors' profiles are not looked up; write what it gives into the cloud", k)
		}
	}
	for k, want := range map[string]string{"identity_api_version": "3", "volume_api_version": "3", "block_storage_api_version": "3", "image_api_version": "2"} {
		v, err := e.text(k)
		if err != nil {
			return err
		}
		if major, _, _ := strings.Cut(strings.TrimPrefix(v, "v"), "."); v != "" && major != want {
			return fmt.Errorf("%s: only %s is spoken", k, want)
		}
	}
	return nil
}

// where is the identity service, the region and the interface.
func (e *entry) where(c *Cloud, s Source) error {
	address, err := e.text("auth.auth_url")
	if err != nil {
		return err
	}
	if err := checkAddress(address, s.AllowPlain); err != nil {
		return fmt.Errorf("auth_url: %w", err)
	}
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("auth_url: want https://HOST")
	}
	c.AuthURL = strings.TrimSuffix(strings.TrimSuffix(u.String(), "/"), "/v3")
	// The library cuts the address at the first thing that looks like a
	// version, wherever in the path.
	if base, err := utils.BaseEndpoint(c.AuthURL); err != nil || strings.TrimSuffix(base, "/") != c.AuthURL {
		return errors.New("auth_url: want the address of the identity service, of version 3, with no version elsewhere in its path")
	}
	if c.Region, err = e.region(s.Region); err != nil {
		return err
	}
	way, err := e.same("interface", "endpoint_type")
	if err != nil {
		return err
	}
	switch c.Interface = gophercloud.Availability(strings.TrimSuffix(way, "URL")); c.Interface {
	case "":
		c.Interface = gophercloud.AvailabilityPublic
	case gophercloud.AvailabilityPublic, gophercloud.AvailabilityInternal, gophercloud.AvailabilityAdmin:
	default:
		return errors.New("interface: want public, internal or admin")
	}
	return nil
}

// region is the one that is asked for, the cloud's, or its only one.
func (e *entry) region(asked string) (string, error) {
	own, err := e.text("region_name")
	if err != nil {
		return "", err
	}
	e.used["regions"] = true
	var names []string
	for _, r := range e.fields["regions"].list {
		if r.fields["values"].fields != nil {
			return "", errors.New("regions: values of a region are not read; write a cloud for each")
		}
		names = append(names, r.text+r.fields["name"].text)
	}
	region := asked
	if region == "" {
		region = own
	}
	switch {
	case len(names) == 0:
		return region, nil
	case region == "" && len(names) == 1:
		return names[0], nil
	}
	for _, n := range names {
		if n == region {
			return region, nil
		}
	}
	return "", errors.New("the region is none of the cloud's regions")
}

// who are the credentials: exactly one of their kinds.
func (e *entry) who(c *Cloud, _ Source) error {
	t, err := e.texts("auth_type", "auth.username", "auth.user_id", "auth.password", "auth.token", "auth.application_credential_id",
		"auth.application_credential_name", "auth.application_credential_secret", "auth.allow_reauth")
	if err != nil {
		return err
	}
	if reauth := strings.ToLower(t["auth.allow_reauth"]); reauth != "" && reauth != "true" {
		return errors.New("auth.allow_reauth: a daemon has to renew its tokens")
	}
	kind, kinds := "", 0
	for k, key := range map[string]string{"password": "auth.password", "token": "auth.token", "applicationcredential": "auth.application_credential_secret"} {
		if t[key] != "" {
			kind = k
			kinds++
		}
	}
	if kinds != 1 {
		return fmt.Errorf("%d of password, token and application_credential_secret; want one", kinds)
	}
	if said := strings.TrimPrefix(strings.ToLower(t["auth_type"]), "v3"); said != "" && said != kind {
		return fmt.Errorf("auth_type: not of the credentials, which are of the type v3%s", kind)
	}
	a := &c.auth
	a.IdentityEndpoint = c.AuthURL + "/v3/"
	a.Username, a.UserID = t["auth.username"], t["auth.user_id"]
	a.Password, a.TokenID = t["auth.password"], t["auth.token"]
	a.ApplicationCredentialID, a.ApplicationCredentialName = t["auth.application_credential_id"], t["auth.application_credential_name"]
	a.ApplicationCredentialSecret = t["auth.application_credential_secret"]
	a.AllowReauth = kind != "token" // a token that has ended does not renew itself
	named := a.ApplicationCredentialID != "" || a.ApplicationCredentialName != ""
	user := a.Username != "" || a.UserID != ""
	switch {
	case named != (kind == "applicationcredential"):
		return errors.New("application_credential_id or _name, and application_credential_secret: want both or none")
	case a.Username != "" && a.UserID != "":
		return errors.New("username and user_id: want one")
	case kind == "token" && user:
		return errors.New("username or user_id beside a token, which says itself whose it is")
	case !user && (kind == "password" || named && a.ApplicationCredentialID == ""):
		return errors.New("neither username nor user_id")
	}
	if a.ApplicationCredentialID != "" { // which says all
		a.Username, a.UserID, a.ApplicationCredentialName = "", "", ""
	}
	return nil
}

// scope is what the token is for, and the domains that names are in.
func (e *entry) scope(c *Cloud, _ Source) error {
	t, err := e.texts("auth.domain_id", "auth.domain_name", "auth.default_domain", "auth.user_domain_id", "auth.user_domain_name",
		"auth.project_domain_id", "auth.project_domain_name", "auth.trust_id", "auth.system_scope")
	if err != nil {
		return err
	}
	projectID, err := e.same("auth.project_id", "auth.tenant_id")
	if err != nil {
		return err
	}
	projectName, err := e.same("auth.project_name", "auth.tenant_name")
	if err != nil {
		return err
	}
	inDomain := t["auth.domain_id"] != "" || t["auth.domain_name"] != ""
	project := projectID != "" || projectName != ""
	userID, userName := domain(t, "user")
	a := &c.auth
	if a.Username != "" {
		if a.DomainID, a.DomainName = userID, userName; userID+userName == "" {
			return errors.New("user_domain_name: whose user?")
		}
	}
	if a.ApplicationCredentialSecret != "" {
		if project || inDomain || t["auth.trust_id"]+t["auth.system_scope"] != "" {
			return errors.New("an application credential brings its own project: remove project, domain, trust and system_scope")
		}
		return nil
	}
	scope := gophercloud.AuthScope{}
	switch {
	case t["auth.system_scope"] != "":
		if t["auth.system_scope"] != "all" {
			return errors.New("system_scope: want all")
		}
		if project || t["auth.trust_id"] != "" {
			return errors.New("system_scope beside a project or a trust: want one")
		}
		scope.System = true
	case t["auth.trust_id"] != "":
		if project {
			return errors.New("trust_id beside a project: want one")
		}
		scope.TrustID = t["auth.trust_id"]
	case projectID != "":
		scope.ProjectID, c.projectName = projectID, projectName
	case projectName != "":
		scope.ProjectName = projectName
		if scope.DomainID, scope.DomainName = domain(t, "project"); scope.DomainID+scope.DomainName == "" {
			return errors.New("project_domain_name: whose project?")
		}
	case t["auth.domain_id"] != "":
		scope.DomainID = t["auth.domain_id"]
	case t["auth.domain_name"] != "":
		scope.DomainName = t["auth.domain_name"]
	default: // the user's default project, or what the token is for
		return nil
	}
	a.Scope = &scope
	return nil
}

// domain is what names of a kind are in: the id if there is one, as one of the
// two is to be sent.
func domain(t map[string]string, kind string) (id, name string) {
	for _, prefix := range []string{kind + "_domain", "domain"} {
		if id, name = t["auth."+prefix+"_id"], t["auth."+prefix+"_name"]; id != "" {
			return id, ""
		} else if name != "" {
			return "", name
		}
	}
	return t["auth.default_domain"], ""
}

// trust are the certificates, and whether they are looked at.
func (e *entry) trust(c *Cloud, s Source) error {
	t, err := e.texts("verify", "insecure", "cacert", "cert", "key")
	if err != nil {
		return err
	}
	verify, insecure := strings.ToLower(t["verify"]), strings.ToLower(t["insecure"])
	for key, v := range map[string]string{"verify": verify, "insecure": insecure} {
		if v != "" && v != "true" && v != "false" {
			return fmt.Errorf("%s: want true or false", key)
		}
	}
	if verify != "" && verify == insecure {
		return errors.New("verify and insecure differ")
	}
	c.Unverified = verify == "false" || insecure == "true"
	if c.Unverified && !s.AllowUnverified {
		return errors.New("verify: false lets anybody on the way read the password; name the roots by cacert")
	}
	if (t["cert"] == "") != (t["key"] == "") {
		return errors.New("cert and key: want both or none")
	}
	for key, to := range map[string]*string{"cacert": &c.files.roots, "cert": &c.files.cert, "key": &c.files.key} {
		file := t[key]
		if strings.HasPrefix(file, "~") {
			return fmt.Errorf("%s: want the whole path, without ~", key)
		}
		if file != "" && !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(s.File), file)
		}
		*to = file
	}
	return nil
}

const overrideSuffix = "_endpoint_override"

// endpoints are those that the file sets.
func (e *entry) endpoints(c *Cloud, s Source) error {
	for key := range e.fields {
		kind, ok := strings.CutSuffix(key, overrideSuffix)
		if !ok {
			continue
		}
		address, err := e.text(key)
		if err != nil {
			return err
		}
		if err := checkAddress(inProject(address, "0"), s.AllowPlain); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		kind = canonical(strings.ReplaceAll(kind, "_", "-"))
		if _, twice := c.overrides[kind]; twice {
			return fmt.Errorf("%s: set before, under another name of %s", key, kind)
		}
		c.overrides[kind] = gophercloud.NormalizeURL(address)
	}
	return nil
}

// inProject fills in the project, where OpenStack's clients do.
func inProject(address, id string) string {
	return strings.NewReplacer("%(project_id)s", id, "$(project_id)s", id, "%(tenant_id)s", id, "$(tenant_id)s", id).Replace(address)
}

// checkAddress accepts an address to which secrets may go. It does not quote
// what may hold a password.
func checkAddress(address string, plain bool) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return errors.New("want https://HOST")
	case u.User != nil:
		return errors.New("want no credentials in it")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return errors.New("want no query")
	case u.Scheme == "http" && (plain || onLoopback(u.Hostname())), u.Scheme == "https":
		return nil
	case u.Scheme == "http":
		return errors.New("plain http beyond this machine")
	}
	return errors.New("want https://HOST")
}

// onLoopback reports whether a host is this machine, without asking anybody.
func onLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
