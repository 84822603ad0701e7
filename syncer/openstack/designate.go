package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// Kinds of Designate's.
const (
	Zone      syncer.Kind = "zone"
	RecordSet syncer.Kind = "recordset"
)

var designate = api{service: "dns"}

func dnsKinds() []handler { return []handler{zones{}, recordSets{}} }

// everyProject shows, and lets us change, what is not of our own project.
func everyProject() map[string]string { return map[string]string{"X-Auth-All-Projects": "true"} }

// asProject is for what is made in another project. The second name is that of
// before 2022.
func asProject(id string) map[string]string {
	return map[string]string{"X-Auth-Sudo-Project-ID": id, "X-Auth-Sudo-Tenant-ID": id}
}

// ownProject is of the zones that Designate makes by itself for the names of
// floating addresses.
const ownProject = "00000000000000000000000000000000"

func isOwn(project string) bool { return strings.ReplaceAll(project, "-", "") == ownProject }

// dnsRows reads a listing page by page. The service says how much there is:
// with less the listing is not complete.
func (s *Side) dnsRows(ctx context.Context, path, many string, query url.Values, each func(row) error) error {
	query = mapsClone(query)
	query.Set("limit", strconv.Itoa(pageSize))
	next := path + "?" + query.Encode()
	read, seen, first := make(map[string]bool), make(map[string]bool), int64(-1)
	for {
		if read[next] {
			return fmt.Errorf("list %s: the service leads in a circle, to %s", many, next)
		}
		read[next] = true
		var page map[string]any
		if _, err := s.callWith(ctx, designate, http.MethodGet, next, everyProject(), nil, &page); err != nil {
			return err
		}
		if _, ok := page[many].([]any); !ok {
			return fmt.Errorf("list %s: the answer has no %q", path, many)
		}
		for _, r := range row(page).rows(many) {
			seen[r.text("id")] = true
			if r.text("action") == "DELETE" {
				continue // it was deleted, and is about to go
			}
			if err := each(r); err != nil {
				return err
			}
		}
		total, _ := row(page).row("metadata").whole("total_count")
		if first < 0 {
			first = total
		}
		var err error
		if next, err = nextPage(page, many, path); err != nil {
			return err
		}
		if next == "" {
			if n := min(first, total); int64(len(seen)) < n {
				return fmt.Errorf("the listing has %d of %d %s", len(seen), n, many)
			}
			return nil
		}
	}
}

// dnsRow reads one row.
func (s *Side) dnsRow(ctx context.Context, path string) (row, error) {
	var r row
	if _, err := s.callWith(ctx, designate, http.MethodGet, path, everyProject(), nil, &r); err != nil {
		return nil, err
	}
	if r.text("id") == "" || r.text("id") != path[strings.LastIndex(path, "/")+1:] {
		return nil, fmt.Errorf("the answer is not %s", path)
	}
	if r.text("action") == "DELETE" {
		return nil, syncer.ErrGone
	}
	return r, nil
}

// orGone looks why a change was refused: what is about to go cannot be changed.
func (s *Side) orGone(ctx context.Context, path string, err error) error {
	if _, there := s.dnsRow(ctx, path); errors.Is(there, syncer.ErrGone) {
		return both{syncer.ErrGone, err}
	}
	return err
}

// seconds are a time to live: a number, or nothing.
func (r row) seconds(name string) any {
	if n, ok := r.whole(name); ok {
		return n
	}
	return nil
}

// description is null where there is none.
func description(v any) any {
	if text, _ := v.(string); text != "" {
		return text
	}
	return nil
}

// dnsDelete deletes, which the service does in its own time.
func (s *Side) dnsDelete(ctx context.Context, path string) error {
	_, err := s.callWith(ctx, designate, http.MethodDelete, path, everyProject(), nil, nil)
	if cloud.NotFound(err) {
		return nil
	}
	return err
}
