//go:build openstack

package cloudtest

import (
	"context"
	"os"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"

	"github.com/draasd/draas/internal/lab/openstack"
)

// What is known is what real services do. internal/lab/openstack/cmd/sites
// starts them.
func TestRealServices(t *testing.T) {
	file := os.Getenv("OS_CLIENT_CONFIG_FILE")
	if file == "" {
		t.Fatal("there are no sites: make test-openstack starts them")
	}
	auth, endpoint, _, err := clouds.Parse(clouds.WithLocations(file), clouds.WithCloudName("east"))
	if err != nil {
		t.Fatal(err)
	}
	auth.AllowReauth = true
	admin, err := Connect(t.Context(), auth, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	admin.KeystoneDatabase = func(ctx context.Context, runs bool) error {
		if runs {
			return openstack.Release(ctx, "east", openstack.KeystoneDatabase)
		}
		return openstack.Hold(ctx, "east", openstack.KeystoneDatabase)
	}
	if n := Conformance(t, admin); n < 100 {
		t.Errorf("only %d facts were looked at", n)
	}
}
