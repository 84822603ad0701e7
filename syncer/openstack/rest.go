package openstack

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
)

// row is an object as a service shows it.
type row map[string]any

// call makes one request and reads its answer into out, if that is not nil.
func (s *Side) call(ctx context.Context, h api, method, path string, in, out any) (http.Header, error) {
	return s.callWith(ctx, h, method, path, nil, in, out)
}

// callWith is call with headers.
func (s *Side) callWith(ctx context.Context, h api, method, path string, header map[string]string, in, out any) (http.Header, error) {
	c, err := s.client(h.service)
	if err != nil {
		return nil, err
	}
	return call(ctx, c, h, method, path, header, in, out)
}

// api is a service's type, and what version of it is spoken.
type api struct {
	service string
	version string // microversion
}

func call(ctx context.Context, c *gophercloud.ServiceClient, h api, method, path string, header map[string]string, in, out any) (http.Header, error) {
	answer, err := request(ctx, c, h, method, path, &gophercloud.RequestOpts{JSONBody: in, JSONResponse: out, MoreHeaders: header})
	if err != nil {
		return nil, err
	}
	if out == nil {
		_ = answer.Body.Close() // nothing was asked of it
	}
	return answer.Header, nil
}

func request(ctx context.Context, c *gophercloud.ServiceClient, h api, method, path string, opts *gophercloud.RequestOpts) (*http.Response, error) {
	opts.OkCodes = []int{200, 201, 202, 203, 204}
	if h.version != "" {
		versioned := *c
		versioned.Microversion = h.version
		c = &versioned
	}
	return c.Request(ctx, method, address(c, path), opts)
}

// address is a path's at the service; an address that the service gave stays.
func address(c *gophercloud.ServiceClient, path string) string {
	if strings.HasPrefix(path, "http://") || strings.HasPrefix(path, "https://") {
		return path
	}
	return c.ServiceURL(path)
}

// pageSize is asked for; a service may give fewer.
const pageSize = 1000

// pages reads a listing page by page, along the links that the service gives.
func (s *Side) pages(ctx context.Context, h api, path, many string, query url.Values, each func(row) error) error {
	return s.texts(ctx, h, path, many, query, func(text []byte) error {
		r, err := decodeRow(text)
		if err != nil {
			return err
		}
		return each(r)
	})
}

// texts is pages of rows that are not decoded. A link that leads back to a page
// that was read is an error: what is behind it cannot be known.
func (s *Side) texts(ctx context.Context, h api, path, many string, query url.Values, each func([]byte) error) error {
	c, err := s.client(h.service)
	if err != nil {
		return err
	}
	query = mapsClone(query)
	query.Set("limit", strconv.Itoa(pageSize))
	next := path + "?" + query.Encode()
	read := make(map[string]bool)
	for next != "" {
		if read[next] {
			return fmt.Errorf("list %s: the service leads in a circle, to %s", many, next)
		}
		read[next] = true
		text, _, err := page(ctx, c, h, next)
		if err != nil {
			return err
		}
		rows, rest, err := splitPage(text, many)
		if err != nil {
			return fmt.Errorf("list %s: %w", path, err)
		}
		if rows == nil {
			return fmt.Errorf("list %s: the answer has no %q", path, many)
		}
		for _, r := range rows {
			if err := each(r); err != nil {
				return err
			}
		}
		if next, err = nextPage(rest, many, path); err != nil {
			return err
		}
		if next == "" && rest["truncated"] == true { // by Keystone's list_limit, which has no pages
			return fmt.Errorf("list %s: the service says that it has cut the listing off", path)
		}
	}
	return nil
}

// page asks for the text of one.
func page(ctx context.Context, c *gophercloud.ServiceClient, h api, path string) ([]byte, http.Header, error) {
	answer, err := request(ctx, c, h, http.MethodGet, path, &gophercloud.RequestOpts{KeepResponseBody: true})
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return text, answer.Header, nil
}

// nextPage is the link to the page behind, as any of the services gives it.
func nextPage(page map[string]any, many, path string) (string, error) {
	var link string
	if links, ok := page[many+"_links"].([]any); ok { // Nova, Neutron, Cinder
		for _, l := range links {
			if one, ok := l.(map[string]any); ok && one["rel"] == "next" {
				link, _ = one["href"].(string)
			}
		}
	}
	if links, ok := page["links"].(map[string]any); ok { // Keystone, Designate
		link, _ = links["next"].(string)
	}
	if text, ok := page["next"].(string); ok { // Glance: a path
		link = text
	}
	if link == "" {
		return "", nil
	}
	// Only the query is the service's: its address may be that of a host behind
	// a proxy.
	u, err := url.Parse(link)
	if err != nil {
		return "", fmt.Errorf("list %s: a link that is none: %w", path, err)
	}
	return path + "?" + u.RawQuery, nil
}

func mapsClone(v url.Values) url.Values {
	out := make(url.Values, len(v)+1)
	for name, values := range v {
		out[name] = values
	}
	return out
}

func (r row) text(name string) string {
	text, _ := r[name].(string)
	return text
}

func (r row) yes(name string) bool {
	yes, _ := r[name].(bool)
	return yes
}

// texts are the strings of a list.
func (r row) texts(name string) []string {
	list, _ := r[name].([]any)
	out := make([]string, 0, len(list))
	for _, e := range list {
		if text, ok := e.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// rows are the objects of a list.
func (r row) rows(name string) []row {
	list, _ := r[name].([]any)
	out := make([]row, 0, len(list))
	for _, e := range list {
		if fields, ok := e.(map[string]any); ok {
			out = append(out, fields)
		}
	}
	return out
}

func (r row) row(name string) row {
	switch fields := r[name].(type) {
	case row:
		return fields
	case map[string]any:
		return fields
	}
	return nil
}

// whole is a whole number.
func (r row) whole(name string) (int64, bool) {
	switch n := r[name].(type) {
	case json.Number:
		i, err := n.Int64()
		return i, err == nil
	case float64:
		return int64(n), n == float64(int64(n))
	}
	return 0, false
}

// number is a whole number as its text, as a revision.
func (r row) number(name string) string {
	if n, ok := r.whole(name); ok {
		return strconv.FormatInt(n, 10)
	}
	return ""
}
