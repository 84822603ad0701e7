package openstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// containers are found by name in the account of their project. A listing asks
// for each one's header besides, for it alone shows the marker.
type containers struct{ *swift }

func (containers) traits() syncer.Traits {
	return syncer.Traits{Kind: Container, Within: Project, Marked: true, Unique: true, Fixed: []string{"name", "policy"}}
}

func (containers) service() string { return objectStore.service }

// Headers of a container's.
const (
	containerMeta = "X-Container-Meta-"
	markedBy      = "Draas-Source"   // behind containerMeta: the site and the project that it was made after
	markedName    = "Draas-Name"     // and the name, where that is another than its own
	holdsSegments = "Draas-Segments" // it is ours alone: parts of large objects
)

// maxMeta is what Swift takes as a value of metadata, in bytes.
const maxMeta = 256

// headed is how many headers are asked for at once.
const headed = 8

func (k containers) list(ctx context.Context, s *Side, within syncer.Key, each func(syncer.Object) error) error {
	a, err := s.account(within.ID)
	if err != nil {
		return err
	}
	var names []string
	about, err := a.names(ctx, a.base, containerCount, nil, func(r row) error {
		names = append(names, r.text("name"))
		return nil
	})
	if cloud.NotFound(err) && !elsewhere(err) {
		return nil // nobody has put anything into it yet
	}
	if err != nil {
		return a.denied(err)
	}
	if err := k.account(ctx, s, a, about, each); err != nil {
		return err
	}
	for chunk := range slices.Chunk(names, 8*headed) {
		found := make([]*syncer.Object, len(chunk))
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(headed)
		for i, name := range chunk {
			g.Go(func() error {
				o, err := k.head(ctx, s, a.project+"/"+name)
				if errors.Is(err, syncer.ErrGone) && !elsewhere(err) {
					return nil // deleted meanwhile, or none of anybody's
				}
				found[i] = &o
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for _, o := range found {
			if o == nil {
				continue
			}
			if err := each(*o); err != nil {
				return err
			}
		}
	}
	return nil
}

// Headers of an account's.
const (
	accountMeta   = "X-Account-Meta-"
	accountAccess = "X-Account-Access-Control"
)

// account names what an account has of its own, which nothing carries: it would
// say who may do what, and how much, in a place that is the other cloud's. Its ID
// is that of a container without a name, which there is none of.
func (k containers) account(ctx context.Context, s *Side, a account, about http.Header, each func(syncer.Object) error) error {
	var has []string
	for key := range about {
		if short, ok := strings.CutPrefix(key, accountMeta); ok {
			has = append(has, strings.ToLower(short))
		}
	}
	slices.Sort(has) // keys alone: there are secrets among their values
	if about.Get(accountAccess) != "" {
		has = append(has, "access control")
	}
	if len(has) == 0 {
		return nil
	}
	own, err := k.ofServices(ctx, s, a.project)
	if err != nil || own { // the services' containers are named
		return err
	}
	return each(syncer.Object{
		Key: syncer.Key{Kind: Container, ID: a.project + "/"}, Within: syncer.Key{Kind: Project, ID: a.project}, Stance: syncer.Adopted,
		Project: a.project, Name: s.inProject(a.project, "account"), Fields: syncer.Fields{},
		Unsupported: "the metadata of the account is not carried: " + strings.Join(has, ", "),
	})
}

// head reads a container; its header is all there is of it.
func (k containers) head(ctx context.Context, s *Side, id string) (syncer.Object, error) {
	a, address, err := s.at(id)
	if err != nil {
		return syncer.Object{}, err
	}
	h, err := a.ask(ctx, http.MethodHead, address, nil)
	switch {
	case cloud.NotFound(err):
		return syncer.Object{}, both{syncer.ErrGone, err}
	case err != nil:
		return syncer.Object{}, a.denied(err)
	case h.Get(containerMeta+holdsSegments) != "":
		return syncer.Object{}, syncer.ErrGone
	}
	about, err := k.capabilities(ctx, s)
	if err != nil {
		return syncer.Object{}, err
	}
	o := k.object(s, id, h, about)
	own, err := k.ofServices(ctx, s, o.Project)
	if own {
		o.Unsupported = "it is the services' own, and each site's services have theirs"
	}
	return o, err
}

func (containers) object(s *Side, id string, h http.Header, about capabilities) syncer.Object {
	project, name, _ := split(id)
	within := syncer.Key{Kind: Project, ID: project}
	o := syncer.Object{
		Key: syncer.Key{Kind: Container, ID: id}, Within: within, Project: project, Name: s.inProject(project, name),
		Natural: []any{syncer.Ref{Key: within}, name},
	}
	metadata := make(map[string]any)
	for key := range h {
		// What begins with "Draas-" is ours, and each side's own.
		if short, ok := strings.CutPrefix(key, containerMeta); ok && !strings.HasPrefix(short, "Draas-") {
			metadata[strings.ToLower(short)] = h.Get(key)
		}
	}
	lose := func(key, what string) {
		if _, there := metadata[key]; there {
			delete(metadata, key)
			o.Lost = append(o.Lost, what)
		}
	}
	lose("temp-url-key", "key for temporary URLs")
	lose("temp-url-key-2", "second key for temporary URLs")
	if h.Get("X-Container-Sync-To") != "" || h.Get("X-Container-Sync-Key") != "" {
		o.Lost = append(o.Lost, "container synchronization")
	}
	policy := h.Get("X-Storage-Policy")
	if about.policies[policy] || !about.known {
		policy = "" // each side's default
	}
	o.Fields = syncer.Fields{
		"name": name, "policy": policy, "metadata": metadata, "versions": strings.EqualFold(h.Get("X-Versions-Enabled"), "true"), "archive": archive(project, h),
		"read": readACL(h.Get("X-Container-Read")), "write": readACL(h.Get("X-Container-Write")),
	}
	if o.Fields["versions"] == true || o.Fields["archive"] != nil {
		o.Lost = append(o.Lost, "versions of objects from before they were carried")
	}
	o.Marker = containerMarker(h, name)
	return o
}

// archive is where a container keeps what is overwritten, the old way: a stack
// (X-Versions-Location) or a history (X-History-Location).
func archive(project string, h http.Header) any {
	for _, way := range []string{"versions", "history"} {
		name, err := url.PathUnescape(h.Get(archiveHeader(way)))
		if err == nil && name != "" {
			return map[string]any{"way": way, "container": syncer.Ref{Key: syncer.Key{Kind: Container, ID: project + "/" + name}}}
		}
	}
	return nil
}

func archiveHeader(way string) string {
	if way == "history" {
		return "X-History-Location"
	}
	return "X-Versions-Location"
}

// containerMarker reads a marker. A name does not fit into what Swift takes as
// metadata, so it stands there only where it differs from the container's own.
func containerMarker(h http.Header, name string) syncer.Marker {
	m := parseMarker(h.Get(containerMeta + markedBy))
	if m.IsZero() {
		return m
	}
	if other, err := url.PathUnescape(h.Get(containerMeta + markedName)); err == nil && other != "" {
		name = other
	}
	m.ID += "/" + name
	return m
}

// markContainer is containerMarker's reverse.
func markContainer(h map[string]string, m syncer.Marker, name string) error {
	project, source, _ := split(m.ID)
	h[containerMeta+markedBy] = markerText(syncer.Marker{Site: m.Site, ID: project})
	if source == name {
		return nil
	}
	if h[containerMeta+markedName] = escape(source); len(escape(source)) > maxMeta {
		return errors.New("its name is too long to be remembered under another")
	}
	return nil
}

func (k containers) read(ctx context.Context, s *Side, o syncer.Object) (syncer.Object, error) {
	return k.head(ctx, s, o.ID)
}

// nameOf is the name in a natural key: what holds it, and the name.
func nameOf(o syncer.Object) (string, error) {
	if len(o.Natural) == 2 {
		if name, ok := o.Natural[1].(string); ok && name != "" && o.Within.ID != "" {
			return name, nil
		}
	}
	return "", errors.New("it has no name")
}

func (k containers) find(ctx context.Context, s *Side, want syncer.Object) (syncer.Object, error) {
	name, err := nameOf(want)
	if err != nil {
		return syncer.Object{}, err
	}
	found, err := k.head(ctx, s, want.Within.ID+"/"+name)
	if err == nil && found.Marker != (syncer.Marker{Site: syncer.SiteWord(want.Marker.Site), ID: want.Marker.ID}) {
		return syncer.Object{}, syncer.ErrGone // another's
	}
	return found, err
}

func (k containers) create(ctx context.Context, s *Side, want syncer.Object, _ io.Reader) (syncer.Object, error) {
	name, err := nameOf(want)
	if err != nil {
		return syncer.Object{}, err
	}
	id := want.Within.ID + "/" + name
	a, address, err := s.at(id)
	if err != nil {
		return syncer.Object{}, err
	}
	// A PUT of one that is there would change it.
	switch _, err := a.ask(ctx, http.MethodHead, address, nil); {
	case err == nil:
		return syncer.Object{}, fmt.Errorf("a container of that name is there: %w", syncer.ErrTaken)
	case !cloud.NotFound(err):
		return syncer.Object{}, a.denied(err)
	}
	header := make(map[string]string)
	if err := markContainer(header, want.Marker, name); err != nil {
		return syncer.Object{}, err
	}
	about, err := k.capabilities(ctx, s)
	if err != nil {
		return syncer.Object{}, err
	}
	if policy, _ := want.Fields["policy"].(string); policy != "" {
		if _, there := about.policies[policy]; there {
			header["X-Storage-Policy"] = policy
		} // else the target's default, which then differs and is named
	}
	containerHeader(header, nil, want.Fields, about.able(slices.Collect(maps.Keys(want.Fields))))
	if err := a.putContainer(ctx, address, header); err != nil {
		return syncer.Object{}, err
	}
	made, err := k.head(ctx, s, id)
	if err != nil {
		return syncer.Object{}, &syncer.Uncertain{Err: err}
	}
	return made, nil
}

// able leaves out the fields that the object store has nothing for: it would
// refuse the rest with them. That they differ shows.
func (c capabilities) able(fields []string) []string {
	return slices.DeleteFunc(slices.Clone(fields), func(f string) bool { return f == "versions" && !c.versions || f == "archive" && !c.archives })
}

// putContainer makes a container, and the account where that does not come by
// itself.
func (a account) putContainer(ctx context.Context, address string, header map[string]string) error {
	_, err := a.ask(ctx, http.MethodPut, address, header)
	if cloud.NotFound(err) {
		if _, err := a.ask(ctx, http.MethodPut, a.base, nil); err != nil {
			return a.denied(err)
		}
		_, err = a.ask(ctx, http.MethodPut, address, header)
	}
	return a.denied(err)
}

// containerHeader writes the fields that are named. What have has and want has
// not is taken away.
func containerHeader(header map[string]string, have, want syncer.Fields, fields []string) {
	set := func(key, value string, was bool) {
		switch {
		case value != "":
			header[key] = value
		case was:
			header[strings.Replace(key, "X-", "X-Remove-", 1)] = "x"
		}
	}
	for _, name := range fields {
		switch name {
		case "read":
			set("X-Container-Read", writeACL(want[name]), writeACL(have[name]) != "")
		case "write":
			set("X-Container-Write", writeACL(want[name]), writeACL(have[name]) != "")
		case "metadata":
			is, wanted := asMap(have[name]), asMap(want[name])
			for key := range is {
				if _, kept := wanted[key]; !kept {
					set(containerMeta+key, "", true)
				}
			}
			for key, v := range wanted {
				text, _ := v.(string)
				set(containerMeta+key, text, false)
			}
		case "versions":
			if on, _ := want[name].(bool); on || have != nil {
				header["X-Versions-Enabled"] = fmt.Sprint(on)
			}
		case "archive":
			is, wanted := asMap(have[name]), asMap(want[name])
			if way, _ := is["way"].(string); way != "" && way != wanted["way"] {
				set(archiveHeader(way), "", true)
			}
			if way, _ := wanted["way"].(string); way != "" {
				_, container, _ := split(refID(wanted["container"]))
				set(archiveHeader(way), escape(container), false)
			}
		}
	}
}

func refID(v any) string {
	ref, _ := v.(syncer.Ref)
	return ref.ID
}

func (k containers) update(ctx context.Context, s *Side, have, want syncer.Object, fields []string, _ io.Reader) (syncer.Object, error) {
	a, address, err := s.at(have.ID)
	if err != nil {
		return syncer.Object{}, err
	}
	about, err := k.capabilities(ctx, s)
	if err != nil {
		return syncer.Object{}, err
	}
	header := make(map[string]string)
	containerHeader(header, have.Fields, want.Fields, about.able(fields))
	if len(header) > 0 {
		if _, err := a.ask(ctx, http.MethodPost, address, header); err != nil {
			return syncer.Object{}, a.denied(err)
		}
	}
	if slices.Contains(fields, "read") {
		_, name, _ := split(have.ID)
		if err := a.shareSegments(ctx, name, want.Fields); err != nil {
			return syncer.Object{}, a.denied(err)
		}
	}
	return k.head(ctx, s, have.ID)
}

func (k containers) remove(ctx context.Context, s *Side, have syncer.Object) error {
	a, address, err := s.at(have.ID)
	if err != nil {
		return err
	}
	_, err = a.ask(ctx, http.MethodDelete, address, nil)
	if cloud.Conflict(err) {
		return errors.Join(syncer.ErrInUse, err)
	}
	if err != nil && !cloud.NotFound(err) {
		return a.denied(err)
	}
	_, name, _ := split(have.ID)
	return a.dropSegments(ctx, name)
}
