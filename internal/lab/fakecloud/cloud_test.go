package fakecloud_test

import (
	"context"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"go.uber.org/goleak"

	"github.com/draasd/draas/internal/lab/cloudtest"
	"github.com/draasd/draas/internal/lab/fakecloud"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect enters a cloud as its administrator.
func connect(t testing.TB, c *fakecloud.Cloud) *cloudtest.Clients {
	t.Helper()
	clients, err := cloudtest.Connect(t.Context(), gophercloud.AuthOptions{IdentityEndpoint: c.URL(), Username: "admin", Password: "secret",
		DomainName: "Default", TenantName: "admin"}, gophercloud.EndpointOpts{Region: "RegionOne"})
	if err != nil {
		t.Fatal(err)
	}
	return clients
}

// The fake shows every fact that real services were seen to show.
func TestFacts(t *testing.T) {
	c := fakecloud.New(t, fakecloud.Options{})
	admin := connect(t, c)
	admin.KeystoneDatabase = func(_ context.Context, runs bool) error {
		if runs {
			c.StartKeystoneDatabase()
		} else {
			c.StopKeystoneDatabase()
		}
		return nil
	}
	if n := cloudtest.Conformance(t, admin); n == 0 {
		t.Fatal("no fact was checked")
	}
}
