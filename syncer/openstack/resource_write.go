package openstack

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/draasd/draas/syncer"
)

func (r *resource) create(ctx context.Context, s *Side, want syncer.Object, _ io.Reader) (syncer.Object, error) {
	if want.Stance == syncer.Adopted {
		// It came with what it stands in.
		have, err := r.find(ctx, s, want)
		if err != nil {
			return syncer.Object{}, err
		}
		return r.update(ctx, s, have, want, syncer.Diff(want.Fields, have.Fields), nil)
	}
	body := make(row, len(r.fields)+1)
	for _, f := range r.fields {
		if v, there := want.Fields[f.name]; there && v != nil && !f.later {
			body[f.name] = write(v)
		}
	}
	switch r.marked {
	case asExtra:
		body[property] = markerText(want.Marker)
	case asTag:
		// Tags cannot be given with a creation: until they are set the description
		// says whose it is, in the same request.
		body["description"] = markerPrefix + markerText(want.Marker)
	}
	if r.encode != nil {
		if err := r.encode(want, body, true); err != nil {
			return syncer.Object{}, err
		}
	}
	var answer row
	if _, err := s.call(ctx, r.api, http.MethodPost, r.path, map[string]any{r.one: body}, &answer); err != nil {
		if r.taken != "" && strings.Contains(err.Error(), r.taken) {
			err = both{syncer.ErrTaken, err}
		}
		return syncer.Object{}, err
	}
	id := answer.row(r.one).text("id")
	if id == "" {
		return syncer.Object{}, &syncer.Uncertain{Err: errors.New("the answer has no id")}
	}
	// From here on it exists, and bears its marker: what fails now is looked for,
	// and finished, by what comes after.
	last, err := r.finish(ctx, s, id, nil, answer.row(r.one), want, append(slices.Sorted(maps.Keys(want.Fields)), "tags"))
	if err != nil {
		return syncer.Object{}, &syncer.Uncertain{Err: err}
	}
	if r.marked != asTag && r.children == nil {
		last = answer
	}
	made, err := r.made(ctx, s, id, last)
	if err != nil {
		return syncer.Object{}, &syncer.Uncertain{Err: err}
	}
	return made, nil
}

// made is an object as the last of the requests that made it has shown it, where
// that shows all of it.
func (r *resource) made(ctx context.Context, s *Side, id string, last row) (syncer.Object, error) {
	if in := last.row(r.one); in.text("id") == id {
		return r.shown(ctx, s, in)
	}
	return r.get(ctx, s, id)
}

// finish writes what is not in the body of a creation, which has shown a row, or of
// a change, and gives the answer to its last request if that shows the whole object.
func (r *resource) finish(ctx context.Context, s *Side, id string, have *syncer.Object, shown row, want syncer.Object, fields []string) (last row, err error) {
	switch {
	case have == nil && r.fresh != nil:
		err = r.fresh(ctx, s, shown, want)
	case r.children != nil:
		err = r.children(ctx, s, id, have, want, fields)
	}
	if err != nil {
		return nil, err
	}
	if r.marked != asTag || !slices.Contains(fields, "tags") {
		return nil, nil
	}
	tags := []any{markerPrefix + markerText(want.Marker)}
	if want.Marker.IsZero() { // an adopted object's stays as it is
		tags = nil
	}
	if own, ok := want.Fields["tags"].(syncer.Set); ok {
		tags = append(tags, own...)
	}
	if _, err := s.call(ctx, r.api, http.MethodPut, cmp.Or(r.tagged, r.path)+"/"+url.PathEscape(id)+"/tags", map[string]any{"tags": tags}, nil); err != nil {
		return nil, err
	}
	if have == nil {
		description, _ := want.Fields["description"].(string)
		_, err = s.call(ctx, r.api, http.MethodPut, r.path+"/"+url.PathEscape(id), map[string]any{r.one: row{"description": description}}, &last)
	}
	return last, err
}

func (r *resource) update(ctx context.Context, s *Side, have, want syncer.Object, fields []string, _ io.Reader) (syncer.Object, error) {
	if have.Marker.IsZero() && !want.Marker.IsZero() && r.markerAt != "" {
		fields = append(slices.Clone(fields), r.markerAt) // its creation was cut off
	}
	if _, err := r.finish(ctx, s, have.ID, &have, nil, want, fields); err != nil {
		return syncer.Object{}, err
	}
	body := make(row)
	for _, f := range r.fields {
		if slices.Contains(fields, f.name) && !f.once && !f.later {
			v, there := want.Fields[f.name]
			if !there {
				v = f.none
			}
			body[f.name] = write(v)
		}
	}
	if r.encode != nil {
		if err := r.encode(syncer.Object{Fields: pick(want.Fields, fields)}, body, false); err != nil {
			return syncer.Object{}, err
		}
	}
	if len(body) > 0 {
		method := r.method
		if method == "" {
			method = http.MethodPut
		}
		var header map[string]string
		if r.revision == "revision_number" && r.children == nil && !slices.Contains(fields, "tags") {
			header = map[string]string{"If-Match": "revision_number=" + have.Revision} // 412 if others were here
		}
		if _, err := s.callWith(ctx, r.api, method, r.path+"/"+url.PathEscape(have.ID), header, map[string]any{r.one: body}, nil); err != nil {
			return syncer.Object{}, err
		}
	}
	return r.get(ctx, s, have.ID)
}

func pick(all syncer.Fields, names []string) syncer.Fields {
	out := make(syncer.Fields, len(names))
	for _, name := range names {
		if v, ok := all[name]; ok {
			out[name] = v
		}
	}
	return out
}

func (r *resource) remove(ctx context.Context, s *Side, have syncer.Object) error {
	if r.clear != nil {
		if err := r.clear(ctx, s, have); err != nil {
			return err
		}
	}
	_, err := s.call(ctx, r.api, http.MethodDelete, r.path+"/"+url.PathEscape(have.ID), nil, nil)
	return err
}
