package fakecloud_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/draasd/draas/internal/lab/fakecloud"
)

// read fetches a URL of a service and throws the answer away.
func read(b *testing.B, c *gophercloud.ServiceClient, path string) int64 {
	b.Helper()
	resp, err := c.Get(b.Context(), c.ServiceURL(path), nil, &gophercloud.RequestOpts{KeepResponseBody: true, OkCodes: []int{http.StatusOK}})
	if err != nil {
		b.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	_ = resp.Body.Close()
	return n
}

// A listing of 10,000 networks: whole, and as the three fields that tell what
// changed.
func BenchmarkListNetworks(b *testing.B) {
	c := fakecloud.New(b, fakecloud.Options{})
	for i := range 10_000 {
		c.Hand().Make("network", fields{"name": fmt.Sprint("n", i)})
	}
	clients := connect(b, c)
	for name, path := range map[string]string{"whole": "networks", "fields": "networks?fields=id&fields=revision_number&fields=updated_at"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.SetBytes(read(b, clients.Network, path))
			}
		})
	}
}

// A listing of 10,000 objects.
func BenchmarkListObjects(b *testing.B) {
	c := fakecloud.New(b, fakecloud.Options{})
	data := fakecloud.Bytes([]byte("data"))
	for i := range 10_000 {
		c.Hand().Object("box", fmt.Sprint("o", i), data, nil)
	}
	clients := connect(b, c)
	for b.Loop() {
		b.SetBytes(read(b, clients.Object, "box?format=json"))
	}
}

// One small request: what the fake itself costs a benchmark.
func BenchmarkRequest(b *testing.B) {
	c := fakecloud.New(b, fakecloud.Options{})
	id := c.Hand().Make("network", fields{"name": "n"})
	clients := connect(b, c)
	b.ReportAllocs()
	for b.Loop() {
		read(b, clients.Network, "networks/"+id)
	}
}

// Reading a generated image of 64 MiB.
func BenchmarkDownload(b *testing.B) {
	c := fakecloud.New(b, fakecloud.Options{})
	id := c.Hand().Image(fields{"name": "i", "disk_format": "raw", "container_format": "bare"}, fakecloud.Generated(1, 64<<20))
	clients := connect(b, c)
	for b.Loop() {
		b.SetBytes(read(b, clients.Image, "images/"+id+"/file"))
	}
}
