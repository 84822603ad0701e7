package fakecloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"
)

// Fields is an object as JSON tells it.
type Fields = map[string]any

// Hand acts on a cloud as its administrator, without a connection: nothing
// of it is counted, delayed, held back by a quota or spoilt by a fault. Tests
// fill a cloud with it, look at it, and change things behind the back of
// those they test.
type Hand struct {
	cloud   *Cloud
	project string
}

// Hand acts in the project admin.
func (c *Cloud) Hand() Hand { return Hand{c, c.AdminProject()} }

// In acts in a project: server groups and volume types go by it.
func (h Hand) In(project string) Hand { return Hand{h.cloud, project} }

// handKey finds the acting hand in a request's context.
type handKey struct{}

// handToken is what a hand shows instead of a token.
func (h Hand) token() *token {
	c := h.cloud
	user := c.identity.users.first(func(r *row) bool { return r.name() == "admin" })
	return &token{user: user.id(), project: h.project, names: []string{"admin", "ResellerAdmin"}, admin: true, expires: time.Unix(1<<40, 0)}
}

// Do sends a request: path is below the service's version, body is encoded as
// JSON unless it is nil. An error carries the service's words.
func (h Hand) Do(service, method, path string, body any) (Fields, error) {
	roots := map[string]string{Identity: "/identity/v3/", Image: "/image/v2/", Network: "/network/v2.0/", Compute: "/compute/v2.1/",
		BlockStorage: "/volume/v3/" + h.project + "/", ObjectStore: "/object-store/v1/AUTH_" + h.project + "/", DNS: "/dns/v2/"}
	var raw []byte
	if body != nil {
		raw = encode(body)
	}
	ctx := context.WithValue(context.Background(), handKey{}, h)
	r, err := http.NewRequestWithContext(ctx, method, "http://"+h.cloud.addr+roots[service]+path, bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch && service == Image {
		r.Header.Set("Content-Type", "application/openstack-images-v2.1-json-patch")
	}
	r.Header.Set("OpenStack-API-Version", map[string]string{Compute: "compute 2.93", BlockStorage: "volume 3.70"}[service])
	r.Header.Set("X-Auth-All-Projects", "true")
	w := httptest.NewRecorder()
	h.cloud.ServeHTTP(w, r)
	if w.Code >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s %s: %d %s", method, path, w.Code, w.Body.String())
	}
	var out Fields
	if w.Body.Len() > 0 && w.Body.Bytes()[0] == '{' {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return out, nil
}

// handKind is where the objects of a kind are.
type handKind struct {
	service, path string
	one           string // the key of one object; empty where it stands bare
	update        string // method of changes
}

// handKinds names the kinds that Make, Change, Remove and List know.
var handKinds = map[string]handKind{
	"domain": {Identity, "domains", "domain", "PATCH"}, "project": {Identity, "projects", "project", "PATCH"},
	"role": {Identity, "roles", "role", "PATCH"}, "group": {Identity, "groups", "group", "PATCH"}, "user": {Identity, "users", "user", "PATCH"},
	"network": {Network, "networks", "network", "PUT"}, "subnet": {Network, "subnets", "subnet", "PUT"},
	"subnetpool": {Network, "subnetpools", "subnetpool", "PUT"}, "address_scope": {Network, "address-scopes", "address_scope", "PUT"},
	"router": {Network, "routers", "router", "PUT"}, "port": {Network, "ports", "port", "PUT"},
	"security_group":      {Network, "security-groups", "security_group", "PUT"},
	"security_group_rule": {Network, "security-group-rules", "security_group_rule", "PUT"},
	"rbac_policy":         {Network, "rbac-policies", "rbac_policy", "PUT"}, "policy": {Network, "qos/policies", "policy", "PUT"},
	"address_group": {Network, "address-groups", "address_group", "PUT"},
	"floatingip":    {Network, "floatingips", "floatingip", "PUT"}, "flavor": {Compute, "flavors", "flavor", "PUT"},
	"keypair": {Compute, "os-keypairs", "keypair", "PUT"}, "server_group": {Compute, "os-server-groups", "server_group", "PUT"},
	"volume_type": {BlockStorage, "types", "volume_type", "PUT"}, "qos_specs": {BlockStorage, "qos-specs", "qos_specs", "PUT"},
	"image": {Image, "images", "", "PATCH"}, "zone": {DNS, "zones", "", "PATCH"},
}

func kindOf(kind string) handKind {
	k, known := handKinds[kind]
	if !known {
		panic(fmt.Sprintf("fake cloud has no kind %q", kind))
	}
	return k
}

func (k handKind) wrap(f Fields) Fields {
	if k.one == "" {
		return f
	}
	return Fields{k.one: f}
}

// Make creates an object of a kind ("network", "project", "image" and so on)
// and gives its id. It panics when the service refuses: the test is wrong.
func (h Hand) Make(kind string, f Fields) string {
	k := kindOf(kind)
	out, err := h.Do(k.service, http.MethodPost, k.path, k.wrap(f))
	if err != nil {
		panic(fmt.Sprintf("fake cloud: make %s: %v", kind, err))
	}
	if in, wrapped := out[k.one].(Fields); wrapped {
		out = in
	}
	return text(out, "id")
}

// Change sets fields of an object, as an operator would.
func (h Hand) Change(kind, id string, f Fields) error {
	k := kindOf(kind)
	if kind != "image" {
		_, err := h.Do(k.service, k.update, k.path+"/"+id, k.wrap(f))
		return err
	}
	var patch []any
	for key, value := range f {
		patch = append(patch, Fields{"op": "add", "path": "/" + strings.ReplaceAll(key, "/", "~1"), "value": value})
	}
	_, err := h.Do(k.service, k.update, k.path+"/"+id, patch)
	return err
}

// Remove deletes an object.
func (h Hand) Remove(kind, id string) error {
	k := kindOf(kind)
	_, err := h.Do(k.service, http.MethodDelete, k.path+"/"+id, nil)
	return err
}

// Show reads an object.
func (h Hand) Show(kind, id string) (Fields, error) {
	k := kindOf(kind)
	out, err := h.Do(k.service, http.MethodGet, k.path+"/"+id, nil)
	if in, wrapped := out[k.one].(Fields); wrapped {
		return in, err
	}
	return out, err
}

// Assign gives a user a role, by its name, in a project.
func (h Hand) Assign(role, user, project string) error {
	h.cloud.mu.Lock()
	r := h.cloud.identity.roles.first(func(r *row) bool { return r.name() == role })
	h.cloud.mu.Unlock()
	if r == nil {
		return errors.New("assign role: there is no " + role)
	}
	_, err := h.Do(Identity, http.MethodPut, "projects/"+project+"/users/"+user+"/roles/"+r.id(), nil)
	return err
}

// Image makes an image with its data; without data it stays queued.
func (h Hand) Image(f Fields, data *Content) string {
	id := h.Make("image", f)
	if data != nil {
		h.cloud.mu.Lock()
		defer h.cloud.mu.Unlock()
		h.cloud.fill(h.cloud.images.rows.get(id), data)
	}
	return id
}

// Object puts an object, and its container where it is missing, into the
// hand's project. Headers are metadata as a client would send it.
func (h Hand) Object(ct, name string, data *Content, headers http.Header) {
	c := h.cloud
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.account("AUTH_" + h.project)
	into := a.containers[ct]
	if into == nil {
		into = c.newContainer(a, ct)
	}
	o := &object{name: name, data: data, etag: data.md5, size: data.size, kind: octets, meta: http.Header{}}
	for key, values := range headers {
		if http.CanonicalHeaderKey(key) == "Content-Type" {
			o.kind = values[0]
			continue
		}
		o.meta.Set(key, values[0])
	}
	c.store(into, o)
}

// ObjectData gives an object's own content and ETag; nil when it is missing.
func (h Hand) ObjectData(ct, name string) *Content {
	c := h.cloud
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.account("AUTH_" + h.project).containers[ct]; in != nil && in.objects[name] != nil {
		return in.objects[name].data
	}
	return nil
}

// Count tells how many objects of a kind the cloud holds, in all projects.
func (c *Cloud) Count(kind string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.rowsOf(kind))
}
