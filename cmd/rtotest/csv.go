package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/draasd/draas/measure"
)

// probeColumns and runColumns are described in docs/rtotest.md.
func probeColumns() []string {
	return []string{"run", "time", "at_ms", "asked_by", "user", "direct", "result", "site", "epoch", "latency_ms", "late_ms", "address", "ttl_s", "error"}
}

func runColumns() []string {
	return []string{"run", "started", "fault", "void", "client", "downtime_ms", "recovered", "site", "failed", "wrong_site", "dual_active_ms",
		"inject_exit", "restore_exit", "writes_acked", "writes_lost", "rpo_ms"}
}

// sheet is a CSV file that is being written. What goes wrong is kept for the
// end: a measurement goes on.
type sheet struct {
	file *os.File
	buf  *bufio.Writer
	csv  *csv.Writer
	err  error
}

func newSheet(path string, columns []string) (*sheet, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("write CSV: %w", err)
	}
	b := bufio.NewWriterSize(f, 1<<16)
	s := &sheet{file: f, buf: b, csv: csv.NewWriter(b)}
	s.write(columns...)
	return s, nil
}

func (s *sheet) write(row ...string) {
	if err := s.csv.Write(row); err != nil && s.err == nil {
		s.err = err
	}
}

func (s *sheet) close() error {
	s.csv.Flush()
	if err := errors.Join(s.err, s.csv.Error(), s.buf.Flush(), s.file.Close()); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

// sheets are the CSV files of a measurement; nil for none.
type sheets struct{ probes, runs *sheet }

func newSheets(path string, series bool) (*sheets, error) {
	if path == "" {
		return nil, nil
	}
	probes, err := newSheet(path, probeColumns())
	if err != nil || !series {
		return &sheets{probes: probes}, err
	}
	ext := filepath.Ext(path)
	runs, err := newSheet(strings.TrimSuffix(path, ext)+"-runs"+ext, runColumns())
	if err != nil {
		return nil, errors.Join(err, probes.close())
	}
	return &sheets{probes: probes, runs: runs}, nil
}

func (s *sheets) close() error {
	if s == nil {
		return nil
	}
	var err error
	if s.runs != nil {
		err = s.runs.close()
	}
	return errors.Join(s.probes.close(), err)
}

// probe writes the outcome of a request.
func (s *sheets) probe(run int, e measure.Event) {
	if s == nil {
		return
	}
	a := e.Sample
	ttl, reason := "", ""
	if e.TTL != measure.UnknownTTL {
		ttl = strconv.FormatFloat(e.TTL.Seconds(), 'f', 3, 64)
	}
	if e.Err != nil {
		reason = inLine(e.Err)
	}
	s.probes.write(number(run), e.Start.Add(a.At).UTC().Format(time.RFC3339Nano), millis(a.At), e.Client, number(int(a.User)), strconv.FormatBool(e.Direct),
		a.Class.String(), string(e.Site), known(uint64(a.Epoch)), millis(a.Done-a.At), millis(a.Sent-a.At), e.Addr, ttl, reason)
}

// run writes what a run of a series found.
func (s *sheets) run(r *measure.Report) {
	if s == nil || s.runs == nil {
		return
	}
	site := ""
	if len(r.Outages) > 0 {
		site = string(r.Outages[0].Site)
	}
	fault, acked, lost, rpo := "", "", "", ""
	if r.Fault != nil {
		fault = r.Fault.Format(time.RFC3339Nano)
	}
	if w := r.Writes; w != nil {
		acked = number(w.Acked)
		if w.Known { // not known is not none
			lost, rpo = number(w.Lost), millis(time.Duration(w.RPO))
		}
	}
	s.runs.write(number(r.Number), r.Started.Format(time.RFC3339Nano), fault, r.VoidReason, string(r.Client), millis(time.Duration(r.Downtime)),
		strconv.FormatBool(r.Recovered), site, number(r.Failed), number(r.WrongSite), millis(time.Duration(r.DualActive)),
		exitOf(r.Inject), exitOf(r.Restore), acked, lost, rpo)
}

func exitOf(a *measure.Action) string {
	if a == nil {
		return ""
	}
	return number(a.ExitCode)
}

func number(n int) string { return strconv.Itoa(n) }

// known is a number, empty when it is not known.
func known(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

func millis(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 3, 64)
}
