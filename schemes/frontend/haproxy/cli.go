package haproxy

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Limits of the command line.
const (
	// answerLimit bounds what is read; a server takes some 150 bytes of a
	// list of states and 600 of statistics.
	answerLimit = 16 << 20
	// lineLimit is well below tune.bufsize, which a line has to fit in.
	lineLimit = 4 << 10
)

// cli is a command socket of HAProxy's (management guide, "Unix Socket
// commands"): one line of commands to a connection, which HAProxy closes when
// it has answered.
type cli struct{ address string }

func (c cli) ask(ctx context.Context, line string) (string, error) {
	network := "unix"
	if _, _, err := net.SplitHostPort(c.address); err == nil && !strings.Contains(c.address, "/") {
		network = "tcp"
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, c.address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends reads and writes
	defer stop()
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return "", fmt.Errorf("send %q: %w", line, withCause(ctx, err))
	}
	// The master keeps a connection open that may bring more commands.
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			return "", fmt.Errorf("send %q: %w", line, withCause(ctx, err))
		}
	}
	answer, err := io.ReadAll(io.LimitReader(conn, answerLimit+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("answer to %q: %w", line, withCause(ctx, err))
	case len(answer) > answerLimit:
		return "", fmt.Errorf("answer to %q: more than %d bytes", line, answerLimit)
	case !bytes.HasSuffix(answer, []byte("\n")):
		// Every answer ends with an empty line: HAProxy has ended instead.
		return "", fmt.Errorf("answer to %q: %w", line, withCause(ctx, io.ErrUnexpectedEOF))
	}
	return string(answer), nil
}

// withCause says why a connection was closed in the middle of something.
func withCause(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		return cause
	}
	return err
}

// tell sends commands that answer nothing when they succeed.
func (c cli) tell(ctx context.Context, commands []string) error {
	for len(commands) > 0 {
		line := commands[0]
		n := 1
		for n < len(commands) && len(line)+1+len(commands[n]) < lineLimit {
			line += ";" + commands[n]
			n++
		}
		answer, err := c.ask(ctx, line)
		if err != nil {
			return err
		}
		if said := strings.TrimSpace(answer); said != "" {
			return fmt.Errorf("%q: %.200q", line, said)
		}
		commands = commands[n:]
	}
	return nil
}

// state of a server, as far as people set it.
type state int

const (
	maint state = iota
	drain
	ready
)

// Bits of srv_admin_state (HAProxy's server-t.h): in maintenance by force,
// because a tracked server is, because its name does not resolve or gives
// another error; the same for draining. The bit "by configuration" only tells
// how it started.
const (
	maintBits = 0x01 | 0x02 | 0x20
	drainBits = 0x08 | 0x10
)

// server is a line of "show servers state".
type server struct {
	proxy   uint64
	backend string
	name    string
	address string // host:port
	admin   uint64
}

func (s server) state() state {
	switch {
	case s.admin&maintBits != 0:
		return maint
	case s.admin&drainBits != 0:
		return drain
	}
	return ready
}

// parseServers reads the answer to "show servers state".
func parseServers(text string) ([]server, error) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) < 2 || lines[0] != "1" || !strings.HasPrefix(lines[1], "# ") {
		return nil, fmt.Errorf("not version 1 of a list of states: %.100q", text)
	}
	header := strings.Fields(lines[1][2:])
	at, err := columns(header, "be_id", "be_name", "srv_name", "srv_addr", "srv_admin_state", "srv_port")
	if err != nil {
		return nil, err
	}
	var all []server
	for _, line := range lines[2:] {
		f := strings.Split(line, " ")
		if len(f) != len(header) {
			return nil, fmt.Errorf("%d columns where the header has %d: %.200q", len(f), len(header), line)
		}
		s := server{backend: f[at[1]], name: f[at[2]]}
		if !name.MatchString(s.name) {
			return nil, fmt.Errorf("name of a server: %.200q", s.name)
		}
		if s.proxy, err = strconv.ParseUint(f[at[0]], 10, 32); err != nil {
			return nil, fmt.Errorf("number of the backend: %.200q", f[at[0]])
		}
		if s.admin, err = strconv.ParseUint(f[at[4]], 10, 32); err != nil {
			return nil, fmt.Errorf("state of server %s: %.200q", s.name, f[at[4]])
		}
		if s.address, err = joined(f[at[3]], f[at[5]]); err != nil {
			return nil, fmt.Errorf("server %s: %w", s.name, err)
		}
		if slices.ContainsFunc(all, func(o server) bool { return o.name == s.name && o.backend == s.backend }) {
			return nil, fmt.Errorf("server %s is there twice", s.name)
		}
		all = append(all, s)
	}
	return all, nil
}

// parseSessions reads the sessions under way to each server of a backend from
// the answer to "show stat".
func parseSessions(text, backend string) (map[string]int64, error) {
	text, ok := strings.CutPrefix(text, "# ")
	if !ok {
		return nil, fmt.Errorf("not statistics: %.100q", text)
	}
	r := csv.NewReader(strings.NewReader(text)) // all lines as long as the first
	header, err := r.Read()
	if err != nil {
		return nil, err
	}
	at, err := columns(header, "pxname", "svname", "scur", "qcur")
	if err != nil {
		return nil, err
	}
	sessions := make(map[string]int64)
	for {
		f, err := r.Read()
		if errors.Is(err, io.EOF) {
			return sessions, nil
		}
		if err != nil {
			return nil, err
		}
		if f[at[0]] != backend {
			return nil, fmt.Errorf("asked for %s, told of %.200q", backend, f[at[0]])
		}
		if _, twice := sessions[f[at[1]]]; twice {
			return nil, fmt.Errorf("server %.200q is there twice", f[at[1]])
		}
		var n int64
		for _, column := range at[2:] {
			count, err := strconv.ParseUint(f[column], 10, 32)
			if err != nil {
				return nil, fmt.Errorf("sessions of server %.200q: %.200q", f[at[1]], f[column])
			}
			n += int64(count)
		}
		sessions[f[at[1]]] = n
	}
}

// parseOld reads the workers that a reload has left behind from the answer to
// "show proc" at the master's socket.
func parseOld(text string) ([]int, error) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if !strings.HasPrefix(lines[0], "#<PID> ") {
		return nil, fmt.Errorf("not a list of processes: %.100q", text)
	}
	var pids []int
	section := ""
	for _, line := range lines[1:] {
		if title, ok := strings.CutPrefix(line, "# "); ok {
			section = title
			continue
		}
		if section != "old workers" {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 2 {
			return nil, fmt.Errorf("process: %.200q", line)
		}
		pid, err := strconv.ParseInt(f[0], 10, 32)
		if err != nil || pid <= 1 {
			return nil, fmt.Errorf("number of a process: %.200q", f[0])
		}
		pids = append(pids, int(pid))
	}
	return pids, nil
}

// columns finds the places of columns by their names.
func columns(header []string, names ...string) ([]int, error) {
	var at []int
	for _, n := range names {
		i := slices.Index(header, n)
		if i < 0 {
			return nil, fmt.Errorf("no column %s", n)
		}
		at = append(at, i)
	}
	return at, nil
}
