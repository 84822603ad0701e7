package fakecloud

import (
	"net/http"
	"net/url"
	"strings"
)

const (
	linkTo      = "X-Symlink-Target"
	linkAccount = "X-Symlink-Target-Account"
	linkETag    = "X-Symlink-Target-Etag"
	linksMost   = 2 // in a row
)

// target is where a symbolic link leads.
func (o *object) target(account string) objectPath {
	path, err := url.PathUnescape(o.meta.Get(linkTo))
	if err != nil {
		path = o.meta.Get(linkTo)
	}
	if other := o.meta.Get(linkAccount); other != "" {
		account = other
	}
	at := objectPath{account: account}
	at.container, at.object, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return at
}

// checkLink checks a link that is put: it has no bytes of its own, and one that names
// its target's tag leads to just that.
func (q *request) checkLink(at objectPath, o *object) error {
	if o.meta.Get(linkTo) == "" {
		return nil
	}
	to := o.target(at.account)
	switch {
	case o.size != 0:
		return failed(http.StatusBadRequest, "Symlink requests require a zero byte body")
	case to.container == "" || to.object == "":
		return failed(http.StatusPreconditionFailed, "X-Symlink-Target header must be of the form <container name>/<object name>")
	}
	if etag := strings.Trim(o.meta.Get(linkETag), `"`); etag != "" {
		ct := q.account(to.account).containers[to.container]
		if ct == nil || ct.objects[to.object] == nil || ct.objects[to.object].etag != etag {
			return failed(http.StatusConflict, "Object Etag does not match X-Symlink-Target-Etag header")
		}
	}
	return nil
}

// follow leads a reading to what a link leads to, unless the link itself is
// asked for.
func (q *request) follow(at objectPath, o *object) (objectPath, *object, error) {
	for range linksMost {
		if o.meta.Get(linkTo) == "" || q.query().Get("symlink") == "get" {
			return at, o, nil
		}
		at = o.target(at.account)
		ct := q.account(at.account).containers[at.container]
		if ct == nil || ct.objects[at.object] == nil {
			return at, nil, failed(http.StatusNotFound, "The resource could not be found.")
		}
		o = ct.objects[at.object]
	}
	return at, nil, failed(http.StatusConflict, "Too many levels of symbolic links")
}
