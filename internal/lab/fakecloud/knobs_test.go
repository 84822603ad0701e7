package fakecloud_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/dns/v2/zones"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"

	"github.com/draasd/draas/internal/lab/fakecloud"
)

// A zone is PENDING for as many readings as asked for.
func TestPendingDNS(t *testing.T) {
	c, clients := setup(t, fakecloud.Options{PendingDNS: 2})
	id := c.Hand().Make("zone", fields{"name": "z.example.", "email": "a@z.example"})
	for _, want := range []string{"PENDING", "PENDING", "ACTIVE"} {
		z, err := zones.Get(t.Context(), clients.DNS, id).Extract()
		if err != nil || z.Status != want {
			t.Fatalf("the zone is %s, %v; want %s", z.Status, err, want)
		}
	}
}

// A permission that is missing for one call only.
func TestForbidden(t *testing.T) {
	c, clients := setup(t, fakecloud.Options{})
	c.Inject(fakecloud.Fault{Service: fakecloud.Network, Method: http.MethodPost, Path: "/networks$", Status: http.StatusForbidden})
	if err := makeNetwork(t.Context(), clients, "n"); !gophercloud.ResponseCodeIs(err, http.StatusForbidden) {
		t.Fatalf("got %v", err)
	}
	if _, err := networks.List(clients.Network, nil).AllPages(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Heal()
	if err := makeNetwork(t.Context(), clients, "n"); err != nil {
		t.Fatal(err)
	}
}

// Every request takes the latency, and the clients' own waiting is no load.
func TestLatency(t *testing.T) {
	c, clients := setup(t, fakecloud.Options{})
	c.SetLatency(20 * time.Millisecond)
	start := time.Now()
	if err := makeNetwork(t.Context(), clients, "n"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 20*time.Millisecond {
		t.Fatalf("a request took %v", took)
	}
}

// Generated content is the same wherever one begins to read it, and another
// seed or place gives other bytes.
func TestGenerated(t *testing.T) {
	a, b := fakecloud.Generated(1, 300_000), fakecloud.Generated(2, 300_000)
	if a.MD5() == b.MD5() {
		t.Fatal("two seeds give the same bytes")
	}
	whole, part := make([]byte, 300_000), make([]byte, 100_000)
	if _, err := a.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 1, 7, 8, 4095, 4097, 65_536, 123_457} {
		if _, err := a.ReadAt(part, off); err != nil || string(part) != string(whole[off:off+100_000]) {
			t.Fatalf("other bytes at %d, %v", off, err)
		}
	}
	if string(whole[:65_536]) == string(whole[65_536:131_072]) {
		t.Fatal("the bytes come again: data put in the wrong place would not show")
	}
	if kept := fakecloud.Bytes(whole); kept.MD5() != a.MD5() || kept.SHA512() != a.SHA512() || kept.Size() != a.Size() {
		t.Fatal("held and generated content differ")
	}
}

// A microversion that the service does not speak is refused.
func TestMicroversion(t *testing.T) {
	_, clients := setup(t, fakecloud.Options{})
	for version, want := range map[string]bool{"2.93": true, "2.999": false} {
		copied := *clients.Compute
		copied.Microversion = version
		_, err := flavors.ListDetail(&copied, nil).AllPages(t.Context())
		if gophercloud.ResponseCodeIs(err, http.StatusNotAcceptable) == want || want && err != nil {
			t.Errorf("%s gives %v", version, err)
		}
	}
}

// Without its database Keystone lets nobody in, and the other services believe
// for a while in what they have been told.
func TestKeystoneDatabase(t *testing.T) {
	c, clients := setup(t, fakecloud.Options{})
	if err := makeNetwork(t.Context(), clients, "before"); err != nil {
		t.Fatal(err)
	}
	c.StopKeystoneDatabase()
	if _, err := projects.List(clients.Identity, nil).AllPages(t.Context()); !gophercloud.ResponseCodeIs(err, http.StatusInternalServerError) {
		t.Errorf("keystone: %v", err)
	}
	if err := makeNetwork(t.Context(), clients, "meanwhile"); err != nil {
		t.Errorf("a token that neutron knows: %v", err)
	}
	if _, err := flavors.ListDetail(clients.Compute, nil).AllPages(t.Context()); !gophercloud.ResponseCodeIs(err, http.StatusServiceUnavailable) {
		t.Errorf("a token that nova does not know: %v", err)
	}
	c.Advance(5 * time.Minute)
	if err := makeNetwork(t.Context(), clients, "late"); !gophercloud.ResponseCodeIs(err, http.StatusServiceUnavailable) {
		t.Errorf("a token that neutron knew: %v", err)
	}
	c.StartKeystoneDatabase()
	if err := makeNetwork(t.Context(), clients, "after"); err != nil {
		t.Error(err)
	}
	if n := c.Count("network"); n != 3 {
		t.Errorf("%d networks", n)
	}
}
