package fakecloud_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/objectstorage/v1/objects"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/draasd/draas/internal/lab/cloudtest"
	"github.com/draasd/draas/internal/lab/fakecloud"
)

// setup starts a cloud with an administrator's clients.
func setup(t *testing.T, opts fakecloud.Options) (*fakecloud.Cloud, *cloudtest.Clients) {
	t.Helper()
	c := fakecloud.New(t, opts)
	return c, connect(t, c)
}

func makeNetwork(ctx context.Context, clients *cloudtest.Clients, name string) error {
	return networks.Create(ctx, clients.Network, networks.CreateOpts{Name: name}).Err
}

// Which of the matching requests a rule takes.
func TestChoice(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault fakecloud.Fault
		want  string // x where the request fails
	}{
		{"all", fakecloud.Fault{}, "xxxxxx"},
		{"third", fakecloud.Fault{Nth: 3}, "..x..."},
		{"every second", fakecloud.Fault{Every: 2}, ".x.x.x"},
		{"twice", fakecloud.Fault{Times: 2}, "xx...."},
		{"every second, once", fakecloud.Fault{Every: 2, Times: 1}, ".x...."},
		{"another service", fakecloud.Fault{Service: fakecloud.Image}, "......"},
		{"another method", fakecloud.Fault{Method: http.MethodGet}, "......"},
		{"another path", fakecloud.Fault{Path: "/subnets"}, "......"},
		{"this path", fakecloud.Fault{Path: "/networks$"}, "xxxxxx"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, clients := setup(t, fakecloud.Options{})
			tc.fault.Status, tc.fault.RetryAfter = http.StatusTooManyRequests, "7"
			rule := c.Inject(tc.fault)
			got := ""
			for range 6 {
				err := makeNetwork(t.Context(), clients, "n")
				mark := "."
				var e gophercloud.ErrUnexpectedResponseCode
				if errors.As(err, &e) {
					mark = "x"
					if e.Actual != http.StatusTooManyRequests || e.ResponseHeader.Get("Retry-After") != "7" {
						t.Fatalf("got %v with Retry-After %q", err, e.ResponseHeader.Get("Retry-After"))
					}
				}
				got += mark
			}
			if got != tc.want || rule.Hits() != strings.Count(got, "x") {
				t.Fatalf("failed %s, want %s; %d hits", got, tc.want, rule.Hits())
			}
			rule.Remove()
			if err := makeNetwork(t.Context(), clients, "n"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A request dropped before it was handled changed nothing; one whose answer
// was lost did. Gateway errors come after the fact too.
func TestDropped(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault fakecloud.Fault
		done  int
	}{
		{"before", fakecloud.Fault{What: fakecloud.Drop}, 0},
		{"after", fakecloud.Fault{What: fakecloud.Drop, Late: true}, 1},
		{"answered 504 after", fakecloud.Fault{Status: http.StatusGatewayTimeout, Late: true}, 1},
		{"stalled", fakecloud.Fault{What: fakecloud.Stall, Delay: 10 * time.Millisecond}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, clients := setup(t, fakecloud.Options{})
			tc.fault.Service, tc.fault.Method, tc.fault.Times = fakecloud.Network, http.MethodPost, 1
			rule := c.Inject(tc.fault)
			if err := makeNetwork(t.Context(), clients, "n"); err == nil {
				t.Fatal("the request went well")
			}
			if rule.Hits() != 1 || c.Count("network") != tc.done {
				t.Fatalf("%d hits, %d networks", rule.Hits(), c.Count("network"))
			}
		})
	}
}

// An answer that breaks off announced its whole length.
func TestTruncated(t *testing.T) {
	c, clients := setup(t, fakecloud.Options{})
	data := fakecloud.Generated(3, 1<<20)
	id := c.Hand().Image(fields{"name": "i", "disk_format": "raw", "container_format": "bare"}, data)
	c.Inject(fakecloud.Fault{Service: fakecloud.Image, Path: "/file", What: fakecloud.Drop, Download: 1000, Times: 1})
	read := func() ([]byte, error) {
		body, err := imagedata.Download(t.Context(), clients.Image, id).Extract()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = body.Close() }()
		return io.ReadAll(body)
	}
	if got, err := read(); !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != 1000 {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
	got, err := read()
	if err != nil || fakecloud.Bytes(got).SHA512() != data.SHA512() {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
	c.Inject(fakecloud.Fault{Service: fakecloud.Network, Method: http.MethodGet, What: fakecloud.Drop, Download: 10})
	if _, err := networks.List(clients.Network, nil).AllPages(t.Context()); err == nil {
		t.Fatal("half a listing is read")
	}
}

// An upload that is broken in its midst leaves the image queued, and can be
// tried again.
func TestBrokenUpload(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault fakecloud.Fault
		code  int
	}{
		{"dropped", fakecloud.Fault{What: fakecloud.Drop}, 0},
		{"stalled", fakecloud.Fault{What: fakecloud.Stall, Delay: 10 * time.Millisecond}, 0},
		{"503", fakecloud.Fault{Status: http.StatusServiceUnavailable}, http.StatusServiceUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, clients := setup(t, fakecloud.Options{})
			h := c.Hand()
			id := h.Image(fields{"name": "i", "disk_format": "raw", "container_format": "bare"}, nil)
			tc.fault.Path, tc.fault.Method, tc.fault.Upload, tc.fault.Times = "/file$", http.MethodPut, 100_000, 1
			rule := c.Inject(tc.fault)
			data := fakecloud.Generated(1, 500_000)
			err := imagedata.Upload(t.Context(), clients.Image, id, io.NewSectionReader(data, 0, data.Size())).ExtractErr()
			if err == nil || tc.code != 0 && !gophercloud.ResponseCodeIs(err, tc.code) && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "pipe") {
				t.Fatalf("the upload gave %v", err)
			}
			shown, err := h.Show("image", id)
			if err != nil || shown["status"] != "queued" || rule.Hits() != 1 {
				t.Fatalf("the image is %v, %v", shown["status"], err)
			}
			if err := imagedata.Upload(t.Context(), clients.Image, id, io.NewSectionReader(data, 0, data.Size())).ExtractErr(); err != nil {
				t.Fatal(err)
			}
			shown, err = h.Show("image", id)
			if err != nil || shown["os_hash_value"] != data.SHA512() {
				t.Fatalf("the image has the hash %v, %v", shown["os_hash_value"], err)
			}
		})
	}
}

// A body shorter than was announced is no upload.
func TestShortUpload(t *testing.T) {
	c, clients := setup(t, fakecloud.Options{})
	id := c.Hand().Image(fields{"name": "i", "disk_format": "raw", "container_format": "bare"}, nil)
	host := strings.TrimPrefix(strings.TrimSuffix(c.URL(), "/identity/v3"), "http://")
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "PUT /image/v2/images/%s/file HTTP/1.1\r\nHost: %s\r\nX-Auth-Token: %s\r\n"+
		"Content-Type: application/octet-stream\r\nContent-Length: 100\r\n\r\n0123456789", id, host, clients.Image.Token())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
	if shown, err := c.Hand().Show("image", id); err != nil || shown["status"] != "queued" || shown["size"] != nil {
		t.Fatalf("the image is %v of size %v, %v", shown["status"], shown["size"], err)
	}
}

// A token that ends while an upload runs does not end the upload.
func TestTokenEndsInUpload(t *testing.T) {
	c, clients := setup(t, fakecloud.Options{})
	h := c.Hand()
	h.Object("box", "first", fakecloud.Bytes(nil), nil)
	data := fakecloud.Generated(1, 500_000)
	rule := c.Inject(fakecloud.Fault{Method: http.MethodPut, Path: "/box/o$", What: fakecloud.Pass, Upload: 100_000, Do: c.ExpireTokens})
	_, err := objects.Create(t.Context(), clients.Object, "box", "o",
		objects.CreateOpts{Content: io.NewSectionReader(data, 0, data.Size()), NoETag: true}).Extract()
	if err != nil || rule.Hits() != 1 || h.ObjectData("box", "o").MD5() != data.MD5() {
		t.Fatalf("%v after %d hits", err, rule.Hits())
	}
	if err := makeNetwork(t.Context(), clients, "n"); !gophercloud.ResponseCodeIs(err, http.StatusUnauthorized) {
		t.Fatalf("the next request gives %v", err)
	}
}

// The trap of gophercloud that our own uploads must not have: when its token
// has expired it logs in again and then sends an empty body, and Glance calls
// that image active.
func TestEmptyUpload(t *testing.T) {
	c := fakecloud.New(t, fakecloud.Options{})
	clients, err := cloudtest.Connect(t.Context(), gophercloud.AuthOptions{IdentityEndpoint: c.URL(), Username: "admin", Password: "secret",
		DomainName: "Default", TenantName: "admin", AllowReauth: true}, gophercloud.EndpointOpts{})
	if err != nil {
		t.Fatal(err)
	}
	h := c.Hand()
	id := h.Image(fields{"name": "i", "disk_format": "raw", "container_format": "bare"}, nil)
	c.ExpireTokens()
	if err := imagedata.Upload(t.Context(), clients.Image, id, io.MultiReader(strings.NewReader("a stream"))).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	shown, err := h.Show("image", id)
	if err != nil || shown["status"] != "active" || shown["size"] != 0.0 {
		t.Fatalf("the image is %v of size %v, %v", shown["status"], shown["size"], err)
	}
}

// What faults do to listings, as a client sees it that follows the links.
func TestPages(t *testing.T) {
	for _, tc := range []struct {
		name string
		what fakecloud.What
		nth  int
		want string
	}{
		{"whole", fakecloud.Pass, 1, "abcdefg"},
		{"a page comes twice", fakecloud.RepeatPage, 2, "ababcdefg"},
		{"a page is missing", fakecloud.SkipPage, 2, "abefg"},
		{"it ends early", fakecloud.ShortPage, 2, "abc"},
		{"it ends with nothing", fakecloud.EmptyPage, 2, "ab"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, clients := setup(t, fakecloud.Options{})
			for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
				c.Hand().Make("network", fields{"name": name})
			}
			c.Inject(fakecloud.Fault{Service: fakecloud.Network, Path: "/networks", What: tc.what, Nth: tc.nth})
			got := ""
			err := networks.List(clients.Network, networks.ListOpts{Limit: 2}).EachPage(t.Context(), func(_ context.Context, p pagination.Page) (bool, error) {
				rows, err := networks.ExtractNetworks(p)
				for _, n := range rows {
					got += n.Name
				}
				return true, err
			})
			if err != nil || got != tc.want {
				t.Fatalf("listed %s, want %s; %v", got, tc.want, err)
			}
		})
	}
	for what, want := range map[fakecloud.What]string{fakecloud.WrongScheme: "https://127.0.0.1:", fakecloud.WrongHost: "http://cloud.invalid/network/v2.0/networks?"} {
		c, clients := setup(t, fakecloud.Options{})
		for range 3 {
			c.Hand().Make("network", fields{"name": "n"})
		}
		c.Inject(fakecloud.Fault{Service: fakecloud.Network, What: what})
		next := ""
		_ = networks.List(clients.Network, networks.ListOpts{Limit: 2}).EachPage(t.Context(), func(_ context.Context, p pagination.Page) (bool, error) {
			var err error
			next, err = p.(networks.NetworkPage).NextPageURL()
			return false, err
		})
		if !strings.HasPrefix(next, want) {
			t.Errorf("the next link is %q, want %s...", next, want)
		}
	}
}

// Swift's listings are bent as well.
func TestObjectPages(t *testing.T) {
	c, clients := setup(t, fakecloud.Options{})
	for _, name := range []string{"a", "b", "c", "d"} {
		c.Hand().Object("box", name, fakecloud.Bytes(nil), nil)
	}
	c.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Method: http.MethodGet, What: fakecloud.ShortPage, Times: 1})
	all, err := objects.List(clients.Object, "box", objects.ListOpts{}).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names, err := objects.ExtractNames(all)
	if err != nil || !slices.Equal(names, []string{"a", "b", "c", "d"}) {
		t.Fatalf("listed %q, %v; gophercloud asks until a page is empty", names, err)
	}
}

// A dead cloud refuses connections and comes back at the same address with
// all it had.
func TestKillRevive(t *testing.T) {
	c, clients := setup(t, fakecloud.Options{})
	if err := makeNetwork(t.Context(), clients, "n"); err != nil {
		t.Fatal(err)
	}
	id := c.Hand().Image(fields{"name": "i", "disk_format": "raw", "container_format": "bare"}, nil)
	listing := c.Inject(fakecloud.Fault{Method: http.MethodGet, Path: "/images$", What: fakecloud.Stall, Delay: time.Hour})
	upload := make(chan struct{})
	c.Inject(fakecloud.Fault{Path: "/file$", What: fakecloud.Stall, Upload: 1000, Delay: time.Hour, Do: func() { close(upload) }})
	var wait sync.WaitGroup
	wait.Go(func() {
		if _, err := images.List(clients.Image, nil).AllPages(t.Context()); err == nil {
			t.Error("a dead cloud lists images")
		}
	})
	wait.Go(func() {
		data := fakecloud.Generated(1, 10_000_000)
		if err := imagedata.Upload(t.Context(), clients.Image, id, io.NewSectionReader(data, 0, data.Size())).ExtractErr(); err == nil {
			t.Error("a dead cloud takes an image")
		}
	})
	<-upload
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); listing.Hits() == 0; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the request never came")
		}
	}
	c.Kill()
	wait.Wait()
	if err := makeNetwork(t.Context(), clients, "n"); err == nil {
		t.Fatal("a dead cloud answers")
	}
	if err := c.Revive(); err != nil {
		t.Fatal(err)
	}
	if err := makeNetwork(t.Context(), clients, "m"); err != nil {
		t.Fatal(err)
	}
	if n := c.Count("network"); n != 2 {
		t.Fatalf("%d networks", n)
	}
}

// Tokens end by the cloud's own clock, which may be wrong.
func TestClock(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC)
	c, clients := setup(t, fakecloud.Options{Clock: func() time.Time { return start }, TokenLife: 10 * time.Minute})
	c.SetSkew(time.Hour)
	c.Advance(-time.Hour)
	get := func() (*http.Response, error) {
		return clients.Network.Get(t.Context(), clients.Network.ServiceURL("networks"), nil, &gophercloud.RequestOpts{KeepResponseBody: true})
	}
	resp, err := get()
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := resp.Header.Get("Date"); got != "Fri, 02 Jan 2026 03:04:05 GMT" {
		t.Errorf("the date is %s", got)
	}
	id := c.Hand().Make("network", fields{"name": "n"})
	if shown, err := c.Hand().Show("network", id); err != nil || shown["updated_at"] != "2026-01-02T03:04:05Z" {
		t.Errorf("made at %v, %v", shown["updated_at"], err)
	}
	c.Advance(9 * time.Minute)
	if resp, err = get(); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	c.Advance(time.Minute)
	if _, err := get(); !gophercloud.ResponseCodeIs(err, http.StatusUnauthorized) {
		t.Fatalf("an old token gives %v", err)
	}
}

// A cloud may lack services; the rest works.
func TestWithout(t *testing.T) {
	c, clients := setup(t, fakecloud.Options{Without: []string{fakecloud.DNS, fakecloud.ObjectStore}})
	if clients.DNS != nil || clients.Object != nil || clients.Network == nil || c.Has(fakecloud.DNS) {
		t.Fatal("the catalog is not what was asked for")
	}
}

// Hooks see each request before it is carried out, and may change the cloud.
func TestHooks(t *testing.T) {
	c, clients := setup(t, fakecloud.Options{})
	c.ResetCounters()
	c.Record(true)
	var seen []string
	stop := c.OnRequest(func(r fakecloud.Request) {
		seen = append(seen, r.Service+" "+r.Method+" "+r.Route)
		if r.Method == http.MethodGet {
			c.Hand().Make("network", fields{"name": "from the hook"})
		}
	})
	if err := makeNetwork(t.Context(), clients, "n"); err != nil {
		t.Fatal(err)
	}
	all, err := networks.List(clients.Network, nil).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows, err := networks.ExtractNetworks(all)
	if err != nil || len(rows) != 2 {
		t.Fatalf("listed %d networks, %v", len(rows), err)
	}
	stop()
	if err := makeNetwork(t.Context(), clients, "n"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"network POST /v2.0/networks", "network GET /v2.0/networks"}; !slices.Equal(seen, want) {
		t.Errorf("the hook saw %q", seen)
	}
	if log := c.Log(); len(log) != 3 || log[2].Path != "/network/v2.0/networks" || c.Requests() != 3 || c.Writes() != 2 {
		t.Errorf("logged %+v; %d requests, %d writes", log, c.Requests(), c.Writes())
	}
	if n := c.Calls()[fakecloud.Call{Service: fakecloud.Network, Method: http.MethodPost, Route: "/v2.0/networks"}]; n != 2 {
		t.Errorf("counted %d", n)
	}
}
