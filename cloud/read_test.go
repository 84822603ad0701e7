package cloud

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
)

// file is a clouds.yaml with a cloud dr, of these lines in auth and beside it.
func file(auth, beside string) string {
	out := "clouds:\n  dr:\n    auth:\n"
	for line := range strings.Lines(auth) {
		out += "      " + strings.TrimSpace(line) + "\n"
	}
	for line := range strings.Lines(beside) {
		out += "    " + strings.TrimRight(line, "\n") + "\n"
	}
	return out
}

const plainAuth = "auth_url: https://k.example\nusername: admin\npassword: " + canary + "\nuser_domain_name: Default\nproject_name: p\nproject_domain_name: Default"

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want func(Cloud) bool
	}{
		"password": {file(plainAuth, ""), func(c Cloud) bool {
			a := c.Auth()
			return c.AuthURL == "https://k.example" && a.IdentityEndpoint == "https://k.example/v3/" && a.AllowReauth && a.Username == "admin" &&
				a.DomainName == "Default" && *a.Scope == gophercloud.AuthScope{ProjectName: "p", DomainName: "Default"} && c.Interface == "public"
		}},
		// What Horizon hands out.
		"horizon": {file("auth_url: https://k.example:5000/v3\nusername: admin\npassword: x\nproject_id: 7\nproject_name: p\nuser_domain_name: Default",
			"region_name: one\ninterface: public\nidentity_api_version: 3"), func(c Cloud) bool {
			return *c.Auth().Scope == gophercloud.AuthScope{ProjectID: "7"} && c.projectName == "p" && c.Region == "one"
		}},
		"application credential": {file("auth_url: https://k.example\napplication_credential_id: i\napplication_credential_secret: "+canary, "auth_type: v3applicationcredential"),
			func(c Cloud) bool { return c.Auth().Scope == nil && c.Auth().AllowReauth && c.Secrets()[0] == canary }},
		"named credential": {file("auth_url: https://k.example\napplication_credential_name: n\napplication_credential_secret: x\nusername: u\nuser_domain_id: d", ""),
			func(c Cloud) bool { return c.Auth().Username == "u" && c.Auth().DomainID == "d" }},
		"token": {file("auth_url: https://k.example\ntoken: "+canary+"\nproject_id: 7", "auth_type: token"),
			func(c Cloud) bool { return !c.Auth().AllowReauth && c.Secrets()[0] == canary }},
		"system": {file("auth_url: https://k.example\nuser_id: u\npassword: x\nsystem_scope: all", ""), func(c Cloud) bool { return c.Auth().Scope.System }},
		"domain": {file("auth_url: https://k.example\nuser_id: u\npassword: x\ndomain_name: d", ""), func(c Cloud) bool { return c.Auth().Scope.DomainName == "d" }},
		"trust":  {file("auth_url: https://k.example\nuser_id: u\npassword: x\ntrust_id: t", ""), func(c Cloud) bool { return c.Auth().Scope.TrustID == "t" }},
		"default domain": {file("auth_url: https://k.example\nusername: u\npassword: x\nproject_name: p\ndefault_domain: default", ""),
			func(c Cloud) bool { return c.Auth().DomainID == "default" && c.Auth().Scope.DomainID == "default" }},
		"digits are text":   {file(strings.Replace(plainAuth, canary, "0123", 1), ""), func(c Cloud) bool { return c.Auth().Password == "0123" }},
		"yes is text":       {file(strings.Replace(plainAuth, canary, "yes", 1), ""), func(c Cloud) bool { return c.Auth().Password == "yes" }},
		"interface":         {file(plainAuth, "endpoint_type: internalURL"), func(c Cloud) bool { return c.Endpoint().Availability == "internal" }},
		"one region":        {file(plainAuth, "regions: [two]"), func(c Cloud) bool { return c.Endpoint().Region == "two" }},
		"of regions":        {file(plainAuth, "region_name: b\nregions: [a, {name: b}]"), func(c Cloud) bool { return c.Region == "b" }},
		"loopback":          {file(strings.Replace(plainAuth, "https://k.example", "http://127.0.0.1:5000/identity/v3/", 1), ""), func(c Cloud) bool { return c.AuthURL == "http://127.0.0.1:5000/identity" }},
		"override":          {file(plainAuth, "volumev3_endpoint_override: https://v.example/v3/%(project_id)s\nobject_store_endpoint_override: https://o.example"), func(c Cloud) bool { return len(c.overrides) == 2 && c.overrides["block-storage"] != "" }},
		"others' keys":      {file(plainAuth, "image_format: raw\ncompute_api_version: '2.79'\nnetworks: []\nverify: true"), func(c Cloud) bool { return !c.Unverified }},
		"merged":            {"x: &x {region_name: one}\n" + file(plainAuth, "<<: *x"), func(c Cloud) bool { return c.Region == "one" }},
		"redundant version": {file(plainAuth, "identity_api_version: 3\nvolume_api_version: '3'"), func(Cloud) bool { return true }},
	} {
		c, err := Parse(Source{File: "/etc/x/clouds.yaml", Name: "dr"}, []byte(test.text), nil)
		if err != nil || !test.want(c) {
			t.Errorf("%s: %v, %+v", name, err, c.auth.Scope)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	app := "auth_url: https://k.example\napplication_credential_id: i\napplication_credential_secret: " + canary
	for name, test := range map[string]struct{ text, names string }{
		"unknown key":       {file(plainAuth, "compute_service_name: nova2"), "compute_service_name"},
		"unknown in auth":   {file(plainAuth+"\nidentity_provider: x", ""), "auth.identity_provider"},
		"outside auth":      {file(plainAuth, "project_name: q"), "project_name"},
		"profile":           {file(plainAuth, "profile: vexxhost"), "profile"},
		"plain":             {file(strings.Replace(plainAuth, "https", "http", 1), ""), "auth_url"},
		"no url":            {file(strings.Replace(plainAuth, "auth_url: https://k.example", "", 1), ""), "auth_url"},
		"version 2":         {file(strings.Replace(plainAuth, "k.example", "k.example/v2.0", 1), ""), "auth_url"},
		"version inside":    {file(strings.Replace(plainAuth, "k.example", "k.example/v1/identity", 1), ""), "auth_url"},
		"password in url":   {file(strings.Replace(plainAuth, "k.example", "admin:"+canary+"@k.example", 1), ""), "auth_url"},
		"no secret":         {file("auth_url: https://k.example\nusername: u\nuser_domain_id: d", ""), "password"},
		"two secrets":       {file(plainAuth+"\ntoken: x", ""), "2 of password"},
		"two kinds":         {file("auth_url: https://k.example\nuser_id: u\npassword: x\napplication_credential_id: i\napplication_credential_secret: x", ""), "2 of password"},
		"other type":        {file(plainAuth, "auth_type: v3token"), "auth_type"},
		"strange type":      {file(plainAuth, "auth_type: v3totp"), "auth_type"},
		"no reauth":         {file(plainAuth+"\nallow_reauth: false", ""), "allow_reauth"},
		"secret alone":      {file("auth_url: https://k.example\napplication_credential_secret: x", ""), "application_credential_id"},
		"scoped credential": {file(app+"\nproject_name: p", ""), "project"},
		"two users":         {file(plainAuth+"\nuser_id: u", ""), "user_id"},
		"whose user":        {file("auth_url: https://k.example\nusername: u\npassword: x\nproject_id: p", ""), "user_domain_name"},
		"whose project":     {file("auth_url: https://k.example\nuser_id: u\npassword: x\nproject_name: p", ""), "project_domain_name"},
		"two scopes":        {file(plainAuth+"\nsystem_scope: all", ""), "system_scope"},
		"half a system":     {file("auth_url: https://k.example\nuser_id: u\npassword: x\nsystem_scope: half", ""), "system_scope"},
		"trust and project": {file(plainAuth+"\ntrust_id: t", ""), "trust_id"},
		"tenant":            {file(plainAuth+"\ntenant_name: q", ""), "tenant_name"},
		"unverified":        {file(plainAuth, "verify: false"), "verify"},
		"insecure":          {file(plainAuth, "insecure: true"), "verify"},
		"both ways":         {file(plainAuth, "verify: true\ninsecure: true"), "insecure"},
		"maybe":             {file(plainAuth, "verify: maybe"), "verify"},
		"cert alone":        {file(plainAuth, "cert: c.pem"), "key"},
		"home":              {file(plainAuth, "cacert: ~/ca.pem"), "cacert"},
		"interface":         {file(plainAuth, "interface: secret"), "interface"},
		"interfaces":        {file(plainAuth, "interface: public\nendpoint_type: internal"), "endpoint_type"},
		"region":            {file(plainAuth, "region_name: c\nregions: [a, b]"), "region"},
		"which region":      {file(plainAuth, "regions: [a, b]"), "region"},
		"region's values":   {file(plainAuth, "regions: [{name: a, values: {interface: admin}}]"), "regions"},
		"list":              {file(plainAuth, "region_name: [a]"), "region_name"},
		"override":          {file(plainAuth, "image_endpoint_override: http://i.example"), "image_endpoint_override"},
		"overrides":         {file(plainAuth, "volume_endpoint_override: https://a\nvolumev3_endpoint_override: https://b"), "_endpoint_override"},
		"volumes 2":         {file(plainAuth, "volume_api_version: 2"), "volume_api_version"},
		"twice":             {file(plainAuth+"\npassword: y", ""), "line 10"},
		"no auth":           {"clouds: {dr: {region_name: x}}", "auth"},
		"no cloud":          {"clouds: {}", "dr"},
		"no yaml":           {"clouds: [" + canary, "not a clouds.yaml"},
		"secret in a key":   {"clouds: {dr: {auth: {auth_url: https://k.example, user_id: u, password: x, 'Secret " + canary + "': y}}}", "no key"},
		"secret as a key":   {"clouds: {dr: {auth: {auth_url: https://k.example, user_id: u, password: x, " + canary + "}}}", "no key"},
	} {
		c, err := Parse(Source{Name: "dr"}, []byte(test.text), nil)
		if err == nil {
			t.Errorf("%s: accepted: %+v", name, c.auth)
			continue
		}
		if !strings.Contains(err.Error(), test.names) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
	both, err := Parse(Source{Name: "dr"}, []byte(passwordFile), []byte("clouds: {dr: {auth: {password: other}, region_name: r}, x: {}}"))
	if err != nil || both.Auth().Password != "other" || both.Auth().Username != "admin" || both.Region != "r" {
		t.Errorf("secure.yaml counts more: %v, %v", both, err)
	}
	if _, err := Parse(Source{}, []byte(passwordFile), nil); err == nil {
		t.Error("no name: accepted")
	}
	if _, err := Parse(Source{Name: "dr"}, make([]byte, maxFile+1), nil); err == nil {
		t.Error("too long: accepted")
	}
	c, err := Parse(Source{Name: "dr", AllowUnverified: true, AllowPlain: true, Region: "r"},
		[]byte(file(strings.Replace(plainAuth, "https", "http", 1), "verify: false")), nil)
	if err != nil || !c.Unverified || !c.Plain || c.Region != "r" {
		t.Errorf("allowed in words: %v %v", c, err)
	}
}

func TestRead(t *testing.T) {
	for k, v := range map[string]string{"OS_CLOUD": "other", "OS_REGION_NAME": "env", "OS_INTERFACE": "admin", "OS_CACERT": "/none", "OS_PASSWORD": "env"} {
		t.Setenv(k, v)
	}
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	secure := "clouds: {dr: {auth: {password: " + canary + "}}}"
	open := file(strings.Replace(plainAuth, "password: "+canary, "", 1), "cacert: sub/../ca.pem")
	s := Source{File: write("clouds.yaml", open, 0o644), Name: "dr"}
	write("secure.yaml", secure, 0o640)
	write("ca.pem", "none", 0o644)
	if _, err := Read(s); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "ca.pem")+" has no certificate") {
		t.Errorf("roots: %v", err)
	}
	write("clouds.yaml", strings.Replace(open, "cacert: sub/../ca.pem", "", 1), 0o644)
	c, err := Read(s)
	if err != nil || c.Auth().Password != canary || c.Region != "" || c.Interface != "public" {
		t.Fatalf("%v, %v", c, err)
	}
	write("secure.yaml", secure+"\n", 0o640)
	if again, err := Read(s); err != nil || again.Sum == c.Sum {
		t.Errorf("another file has the same sum, %v", err)
	}
	write("secure.yaml", secure, 0o644)
	if _, err := Read(s); err == nil || !strings.Contains(err.Error(), "secure.yaml is open to others") {
		t.Errorf("secure.yaml for all: %v", err)
	}
	write("secure.yaml", "clouds: [", 0o600)
	if _, err := Read(s); err == nil || !strings.Contains(err.Error(), "secure.yaml") {
		t.Errorf("broken secure.yaml: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "secure.yaml")); err != nil {
		t.Fatal(err)
	}
	write("clouds.yaml", passwordFile, 0o604)
	if _, err := Read(s); err == nil || !strings.Contains(err.Error(), "open to others") {
		t.Errorf("clouds.yaml for all: %v", err)
	}
	for _, text := range []string{strings.Repeat("#", maxFile+1), passwordFile + "    cert: a\n    key: b\n"} {
		write("clouds.yaml", text, 0o600)
		if _, err := Read(s); err == nil {
			t.Error("accepted")
		}
	}
	if _, err := Read(Source{File: filepath.Join(dir, "none"), Name: "dr"}); err == nil {
		t.Error("no file: accepted")
	}
}

func TestPrintsNoSecret(t *testing.T) {
	c := parse(t, passwordFile)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "cloud", c)
	if s := fmt.Sprintf("%v %+v %#v %s %q", c, c, c, &c, c) + log.String(); strings.Contains(s, canary) || !strings.Contains(s, "127.0.0.1:5000") {
		t.Error(s)
	}
}

// What is accepted leads somewhere by TLS or on this machine, with exactly one
// secret; what is not is not quoted, and no more than a bound is read.
func FuzzParse(f *testing.F) {
	f.Add([]byte(passwordFile), []byte(nil))
	f.Add([]byte(file(strings.Replace(plainAuth, canary, "", 1), "verify: false\nimage_endpoint_override: https://i")), []byte("clouds: {dr: {auth: {password: SECRET}}}"))
	f.Add([]byte("clouds: {dr: {auth: &a {x: *a}}}"), []byte("clouds:\n  dr: [SECRET]\n"))
	f.Fuzz(func(t *testing.T, text, secure []byte) {
		c, err := Parse(Source{Name: "dr"}, text, secure)
		if err != nil {
			if strings.Contains(err.Error(), "SECRET") {
				t.Error(err)
			}
			return
		}
		if len(c.Secrets()) != 1 || c.Unverified || c.Plain || checkAddress(c.AuthURL, false) != nil || strings.Contains(fmt.Sprintf("%#v", c), "SECRET") {
			t.Errorf("%q and %q were accepted: %v", text, secure, c)
		}
		for kind, address := range c.overrides {
			if checkAddress(inProject(address, "0"), false) != nil || canonical(kind) != kind {
				t.Errorf("%s at %s", kind, address)
			}
		}
		if _, err := c.auth.ToTokenV3CreateMap(nil); err != nil {
			t.Errorf("the library takes it not: %v", err)
		}
	})
}
