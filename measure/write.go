package measure

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/draasd/draas/rto"
)

// WriteConfig says how what is lost is measured. docs/rtotest.md states the
// protocol.
type WriteConfig struct {
	// URL takes a write: POST, the number in the body.
	URL string
	// ReadURL gives back what is stored: GET, ?run= added. URL by default.
	ReadURL string
	// Rate is the writes per second, one after the other: 20.
	Rate float64
	// ReadFor is how long reading back is tried: 10 s.
	ReadFor time.Duration
}

// Writes is what became of the writes of a run.
type Writes struct {
	URL  string `json:"url"`
	Run  string `json:"run"` // that marks its rows
	Sent int    `json:"sent"`
	// Acked counts the writes that were answered with 2xx.
	Acked int `json:"acked"`
	// Known says that what is stored could be read back, and else Unread why
	// not. Nothing below means anything then.
	Known  bool   `json:"known"`
	Unread string `json:"unread,omitempty"`

	Stored int `json:"stored"`
	// Lost counts the writes that were acknowledged and are not stored, and
	// LostNumbers tells the first hundred of them.
	Lost        int      `json:"lost"`
	LostNumbers []uint64 `json:"lost_numbers,omitempty"`
	// RPO is from the last write that was kept before the first that was lost
	// to the last that was lost, by their acknowledgements; AtLeast from the
	// first that was lost.
	RPO     Millis     `json:"rpo_ms"`
	AtLeast Millis     `json:"rpo_at_least_ms"`
	From    *time.Time `json:"from"` // null when nothing was lost
	To      *time.Time `json:"to"`
	// Unacked counts rows that were stored and not acknowledged, Duplicates
	// further copies, Disordered rows behind a higher number, Foreign numbers
	// that were never sent.
	Unacked    int `json:"stored_unacknowledged"`
	Duplicates int `json:"duplicates"`
	Disordered int `json:"out_of_order"`
	Foreign    int `json:"foreign"`
}

// complete fills in the defaults.
func (c WriteConfig) complete() (WriteConfig, error) {
	if c.ReadURL == "" {
		c.ReadURL = c.URL
	}
	if c.Rate == 0 {
		c.Rate = 20
	}
	if c.ReadFor == 0 {
		c.ReadFor = 10 * time.Second
	}
	var errs []error
	for _, u := range []string{c.URL, c.ReadURL} {
		if _, err := parseURL(u); err != nil {
			errs = append(errs, err)
		}
	}
	if !(c.Rate >= 0.1 && c.Rate <= 1000) || c.ReadFor < 0 {
		errs = append(errs, fmt.Errorf("write rate %v is not within 0.1 to 1000 per second", c.Rate))
	}
	return c, errors.Join(errs...)
}

// writer sends numbered rows, one after the other: the next leaves when the
// one before is answered or has failed, and its time has come. None is sent
// twice, so that a copy that is stored twice was made there.
type writer struct {
	config  WriteConfig
	timeout time.Duration
	run     string
	client  *http.Client
	rows    []rto.Write
}

func newWriter(c Config, r resolver) (*writer, error) {
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("make run's id: %w", err)
	}
	w := &writer{config: *c.Write, timeout: c.Timeout, run: hex.EncodeToString(id[:])}
	t := &http.Transport{DisableKeepAlives: true, DialContext: dialer(r)}
	if c.TLS != nil {
		t.TLSClientConfig = c.TLS.Clone()
	} else {
		t.TLSClientConfig = &tls.Config{}
	}
	w.client = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return w, nil
}

// dialer connects as a fresh client does: a lookup for every connection.
func dialer(r resolver) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		addrs, _, err := newBook(Fresh, r, host, 1).addresses(ctx)
		if err != nil {
			return nil, err
		}
		var errs []error
		for _, a := range addrs {
			conn, err := new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(a.String(), port))
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
}

// write sends rows from the start on, until the context ends or the time is
// over; zero is for ever.
func (w *writer) write(ctx context.Context, start time.Time, over time.Duration) {
	period := time.Duration(float64(time.Second) / w.config.Rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Duration(0)
	for n := uint64(1); ; n++ {
		if over > 0 && due >= over {
			return
		}
		timer.Reset(time.Until(start.Add(due)))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		row := rto.Write{Number: n, Sent: time.Since(start)}
		row.Acked = w.one(context.WithoutCancel(ctx), n) == nil
		row.Done = time.Since(start)
		w.rows = append(w.rows, row)
		// A writer that has to wait does not make up for it.
		due = max(due+period, row.Done)
	}
}

// one sends one row and reports whether it was acknowledged.
func (w *writer) one(ctx context.Context, n uint64) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	body := w.run + " " + strconv.FormatUint(n, 10) + "\n"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.config.URL, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "text/plain")
	req.Header.Set("User-Agent", "rtotest")
	req.GetBody = nil // never sent again
	resp, err := w.client.Do(req)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return &badAnswer{reason: "status " + strconv.Itoa(resp.StatusCode)}
	}
	// The acknowledgement is the whole answer.
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// readAgain is the pause between two tries to read back.
const readAgain = 500 * time.Millisecond

// report reads back what is stored and compares.
func (w *writer) report(ctx context.Context, wall func(time.Duration) time.Time) *Writes {
	ctx, cancel := context.WithTimeout(ctx, w.config.ReadFor)
	defer cancel()
	stored, err := w.readBack(ctx)
	for err != nil && ctx.Err() == nil {
		timer := time.NewTimer(readAgain)
		select {
		case <-timer.C:
			if again, e := w.readBack(ctx); ctx.Err() == nil {
				stored, err = again, e
			}
		case <-ctx.Done():
			timer.Stop()
		}
	}
	c := rto.Compare(w.rows, stored)
	out := &Writes{URL: w.config.URL, Run: w.run, Sent: c.Sent, Acked: c.Acked, Known: err == nil}
	if err != nil {
		out.Unread = clean(err.Error())
		return out
	}
	out.Stored, out.Unacked, out.Duplicates, out.Disordered, out.Foreign = c.Stored, c.Unacked, c.Duplicates, c.Disordered, c.Foreign
	out.Lost, out.RPO, out.AtLeast = len(c.Lost), Millis(c.Objective()), Millis(c.AtLeast())
	out.LostNumbers = c.Lost[:min(len(c.Lost), 100)]
	if len(c.Lost) > 0 {
		from, to := wall(c.From), wall(c.Last)
		out.From, out.To = &from, &to
	}
	return out
}

// maxStored bounds what is read back, in bytes.
const maxStored = 64 << 20

func (w *writer) readBack(ctx context.Context) ([]uint64, error) {
	u, err := url.Parse(w.config.ReadURL)
	if err != nil {
		return nil, fmt.Errorf("parse URL: %w", err)
	}
	q := u.Query()
	q.Set("run", w.run)
	u.RawQuery = q.Encode()
	ctx, cancel := context.WithTimeout(ctx, max(w.timeout, 5*time.Second))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("User-Agent", "rtotest")
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read back: %w", &badAnswer{reason: "status " + strconv.Itoa(resp.StatusCode)})
	}
	stored, err := parseStored(io.LimitReader(resp.Body, maxStored), w.run)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	return stored, nil
}

// parseStored reads what is stored of a run: a line "run ID", a number a line
// in the order in which they are stored, and a line "end COUNT". Without its
// head and its end an answer is not one: a page that says something else, or
// one that was cut off, must not look like a loss.
func parseStored(r io.Reader, run string) ([]uint64, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 256)
	if !lines.Scan() || lines.Text() != "run "+run {
		if err := lines.Err(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("the answer does not begin with %q", "run "+run)
	}
	var stored []uint64
	for lines.Scan() {
		text := lines.Text()
		if count, ended := strings.CutPrefix(text, "end "); ended {
			n, err := strconv.ParseUint(count, 10, 64)
			if err != nil || n != uint64(len(stored)) {
				return nil, fmt.Errorf("the answer ends with %.40q after %d numbers", text, len(stored))
			}
			if lines.Scan() {
				return nil, fmt.Errorf("the answer goes on after its end with %.40q", lines.Text())
			}
			return stored, lines.Err()
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("line %d of the answer, %.40q, is not a number", len(stored)+2, text)
		}
		stored = append(stored, n)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("the answer has no end after %d numbers", len(stored))
}
