package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/draasd/draas/cloud"
)

// sites are two real ones, which somebody else has started and will end.
type sites struct {
	b          *bench
	yaml       string
	east, west *place
}

// place is one of them.
type place struct {
	name    string
	file    string // clouds.yaml
	session *cloud.Session
}

// real measures at the sites that OS_CLIENT_CONFIG_FILE names.
func (b *bench) real(ctx context.Context) (err error) {
	file := os.Getenv("OS_CLIENT_CONFIG_FILE")
	if file == "" {
		return errors.New("there are no sites: make bench-sync starts them")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the sites' clouds: %w", err)
	}
	s := &sites{b: b, yaml: string(text)}
	for name, to := range map[string]**place{"east": &s.east, "west": &s.west} {
		c, err := cloud.Read(cloud.Source{File: file, Name: name, AllowPlain: true})
		if err != nil {
			return err
		}
		session, err := cloud.Open(ctx, c, cloud.Options{})
		if err != nil {
			return err
		}
		defer session.Close()
		*to = &place{name, file, session}
	}
	for _, part := range []struct {
		name string
		on   bool
		do   func(context.Context) error
	}{{"image", b.o.Image, s.image}, {"objects", b.o.Objects, s.objects}, {"creates", b.o.Creates, s.creates}} {
		if !part.on {
			continue
		}
		if err := part.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// call makes one request of a service.
func (p *place) call(ctx context.Context, service, method, path string, in, out any) error {
	c, err := p.session.Service(service)
	if err != nil {
		return err
	}
	opts := &gophercloud.RequestOpts{JSONBody: in, JSONResponse: out, OkCodes: []int{200, 201, 202, 204}}
	answer, err := c.Request(ctx, method, c.ServiceURL(path), opts)
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	if out == nil {
		return answer.Body.Close()
	}
	return nil
}

// make makes an object and gives its id.
func (p *place) make(ctx context.Context, service, path, one string, body map[string]any) (string, error) {
	var in any = body
	if one != "" {
		in = map[string]any{one: body}
	}
	var answer map[string]json.RawMessage
	if err := p.call(ctx, service, http.MethodPost, path, in, &answer); err != nil {
		return "", err
	}
	row := answer
	if one != "" {
		row = nil
		if err := json.Unmarshal(answer[one], &row); err != nil {
			return "", fmt.Errorf("%s: make %s: %w", p.name, path, err)
		}
	}
	var id string
	if err := json.Unmarshal(row["id"], &id); err != nil {
		return "", fmt.Errorf("%s: make %s: no id: %w", p.name, path, err)
	}
	return id, nil
}

// address of a path at a service, and a token for it.
func (p *place) address(service, path string) (address, token string, err error) {
	c, err := p.session.Service(service)
	if err != nil {
		return "", "", err
	}
	return c.ServiceURL(path), c.Token(), nil
}

// tool runs a command line tool as the admin of the site, without the Python of
// this process's user: Debian's modules are those of Debian's interpreter.
func (p *place) tool(ctx context.Context, dir string, argv ...string) (cost, string, error) {
	env := []string{"OS_CLIENT_CONFIG_FILE=" + p.file, "OS_CLOUD=" + p.name, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONNOUSERSITE=1", "PYTHONPATH="}
	return run(ctx, dir, env, append([]string{filepath.Join("/usr/bin", argv[0])}, argv[1:]...)...)
}

// swift is tool for swift(1), which reads no clouds.yaml.
func (p *place) swift(ctx context.Context, dir string, args ...string) (cost, error) {
	storage, token, err := p.address("object-store", "")
	if err != nil {
		return cost{}, err
	}
	c, said, err := p.tool(ctx, dir, append([]string{"swift", "--os-storage-url", strings.TrimSuffix(storage, "/"), "--os-auth-token", token, "-q"}, args...)...)
	if err != nil {
		return c, fmt.Errorf("%w\n%s", err, tail(said))
	}
	return c, nil
}
