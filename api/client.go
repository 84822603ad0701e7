package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"unicode"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// maxAnswer bounds an answer in bytes: a full history is below 2 MiB.
const maxAnswer = 8 << 20

// Client speaks to one daemon.
type Client struct {
	http *http.Client
	base string
	name string // for messages
}

// Unix is a client of the daemon whose control socket is at the path.
func Unix(path string) *Client {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	return &Client{http: &http.Client{Transport: t}, base: "http://draasd", name: path}
}

// TLS is a client of the daemon at the address, over mutual TLS.
func TLS(address string, conf *tls.Config) *Client {
	t := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: false}
	return &Client{http: &http.Client{Transport: t}, base: "https://" + address, name: address}
}

// Close drops the client's idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks for the whole picture; local leaves out what other members
// would have to be asked for.
func (c *Client) Status(ctx context.Context, local bool) (*Status, error) {
	path := PathStatus
	if local {
		path += "?local=1"
	}
	var s Status
	if err := c.get(ctx, path, &s); err != nil {
		return nil, fmt.Errorf("ask for status: %w", err)
	}
	return &s, nil
}

// Why asks why a service is where it is.
func (c *Client) Why(ctx context.Context, service draas.ServiceID) (*Why, error) {
	var w Why
	if err := c.get(ctx, PathWhy+"?service="+url.QueryEscape(string(service)), &w); err != nil {
		return nil, fmt.Errorf("ask why: %w", err)
	}
	return &w, nil
}

// History asks for the latest records, oldest first; an empty service means
// all of them.
func (c *Client) History(ctx context.Context, service draas.ServiceID, limit int) ([]failover.Record, error) {
	var h []failover.Record
	path := fmt.Sprintf("%s?service=%s&limit=%d", PathHistory, url.QueryEscape(string(service)), limit)
	if err := c.get(ctx, path, &h); err != nil {
		return nil, fmt.Errorf("ask for history: %w", err)
	}
	return h, nil
}

// Request asks for a move and waits for the decision or the refusal, not for
// the end of the move.
func (c *Client) Request(ctx context.Context, r Request) (*Answer, error) {
	var a Answer
	if err := c.post(ctx, PathRequest, r, &a); err != nil {
		return nil, fmt.Errorf("ask for %s%s: %w", r.Move, r.Ask, err)
	}
	return &a, nil
}

// Reload asks the daemon to read its file again.
func (c *Client) Reload(ctx context.Context) (*Reload, error) {
	var r Reload
	if err := c.post(ctx, PathReload, nil, &r); err != nil {
		return nil, fmt.Errorf("ask for reload: %w", err)
	}
	return &r, nil
}

// Leave asks the member to leave the cluster, and returns when it has begun to.
func (c *Client) Leave(ctx context.Context) (*Done, error) {
	var d Done
	if err := c.post(ctx, PathLeave, nil, &d); err != nil {
		return nil, fmt.Errorf("leave: %w", err)
	}
	return &d, nil
}

// Force asks the survivor to start the cluster anew, and returns when it has
// begun to.
func (c *Client) Force(ctx context.Context, f Force) (*Done, error) {
	var d Done
	if err := c.post(ctx, PathForce, f, &d); err != nil {
		return nil, fmt.Errorf("start anew: %w", err)
	}
	return &d, nil
}

// Watch calls f with every new status until f or the stream ends, or the
// context is done.
func (c *Client) Watch(ctx context.Context, f func(*Status) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+PathWatch, nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return c.explain(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return failure(res)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxAnswer)
	for lines.Scan() {
		var s Status
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return fmt.Errorf("read watch: %w", err)
		}
		if err := f(&s); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("read watch: %w", err)
	}
	return ctx.Err()
}

func (c *Client) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	return c.do(req, into)
}

// post sends a body, nil for none.
func (c *Client) post(ctx context.Context, path string, body, into any) error {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	return c.do(req, into)
}

func (c *Client) do(req *http.Request, into any) error {
	res, err := c.http.Do(req)
	if err != nil {
		return c.explain(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return failure(res)
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// explain says what to do about a daemon that does not answer.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no draasd answers at %s: is it running, and with this failover.toml? (%w)", c.name, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("may not open %s: run as draasd's user or as root (%w)", c.name, err)
	}
	return err
}

func failure(res *http.Response) error {
	var e Error
	if err := json.NewDecoder(io.LimitReader(res.Body, MaxRequest)).Decode(&e); err != nil || e.Error == "" {
		return fmt.Errorf("the daemon answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	}
	return errors.New(harmlessly(e.Error))
}

// maxError bounds what is shown of an error, in bytes.
const maxError = 4 << 10

// harmlessly makes a text fit for a terminal: it may quote what a service or an
// operator has said.
func harmlessly(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s[:min(len(s), maxError)])
}
