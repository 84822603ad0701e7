package haproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// What HAProxy 2.6 says.
const (
	header = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n"
	states = header + "3 shop 1 a1 127.0.0.1 2 4 1 1 0 1 0 2 6 0 0 0 - 21001 - 0 0 - - 0\n3 shop 2 a2 ::1 2 12 1 1 0 1 0 0 8 0 0 0 - 21002 - 0 0 - - 0\n3 shop 3 b1 127.0.0.1 0 5 1 1 1 1 0 0 8 0 0 0 - 21003 - 0 0 - - 0\n\n"
	stats  = "# pxname,svname,qcur,qmax,scur,smax,\nshop,a1,1,0,2,0,\nshop,a2,0,0,0,0,\nshop,b1,0,0,0,0,\n\n"
	procs  = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n13174           master          1 [failed: 0]   0d00h00m02s     2.6.12-1+deb12u4\n# workers\n13299           worker          0               0d00h00m01s     2.6.12-1+deb12u4\n# old workers\n13177           worker          1               0d00h00m02s     2.6.12-1+deb12u4\n# programs\n\n"
)

func TestParse(t *testing.T) {
	all, err := parseServers(states)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range all {
		got = append(got, fmt.Sprint(s.proxy, s.backend, s.name, s.address, s.state()))
	}
	want := []string{"3shopa1127.0.0.1:210012", "3shopa2[::1]:210021", "3shopb1127.0.0.1:210030"}
	if !slices.Equal(got, want) {
		t.Errorf("servers %q, want %q", got, want)
	}
	sessions, err := parseSessions(stats, "shop")
	if err != nil || len(sessions) != 3 || sessions["a1"] != 3 || sessions["b1"] != 0 {
		t.Errorf("sessions %v, %v", sessions, err)
	}
	old, err := parseOld(procs)
	if err != nil || !slices.Equal(old, []int{13177}) {
		t.Errorf("old workers %v, %v", old, err)
	}
}

func TestRefusesWhatItDoesNotKnow(t *testing.T) {
	line := strings.SplitAfter(states, "\n")[2]
	for what, text := range map[string]string{
		"nothing":           "",
		"an error":          "Can't find backend.\n\n",
		"another version":   "2" + states[1:],
		"a missing column":  strings.Replace(states, "srv_admin_state", "srv_state", 1),
		"a line cut short":  states[:len(states)-20],
		"a server twice":    states[:len(states)-1] + line,
		"a strange state":   strings.Replace(states, " 2 4 ", " 2 x ", 1),
		"a negative state":  strings.Replace(states, " 2 4 ", " 2 -4 ", 1),
		"a port too large":  strings.Replace(states, "21001", "91001", 1),
		"a name of another": strings.Replace(states, " a1 ", " a;1 ", 1),
	} {
		if all, err := parseServers(text); err == nil {
			t.Errorf("%s: taken for %v", what, all)
		}
	}
	for what, text := range map[string]string{
		"nothing":          "",
		"an error":         "No such proxy.\n\n",
		"another proxy":    strings.Replace(stats, "shop,a2", "mail,a2", 1),
		"a server twice":   strings.Replace(stats, "shop,a2", "shop,a1", 1),
		"no count":         strings.Replace(stats, "shop,a1,1,0,2", "shop,a1,1,0,", 1),
		"a missing column": strings.Replace(stats, "scur", "cur", 1),
		"a line cut short": stats[:len(stats)-8],
	} {
		if all, err := parseSessions(text, "shop"); err == nil {
			t.Errorf("%s: taken for %v", what, all)
		}
	}
	for what, text := range map[string]string{
		"nothing":  "",
		"an error": "Unknown command\n",
		"no pid":   strings.Replace(procs, "13177 ", "x ", 1),
		"init":     strings.Replace(procs, "13177 ", "1 ", 1),
	} {
		if all, err := parseOld(text); err == nil {
			t.Errorf("%s: taken for %v", what, all)
		}
	}
}

// FuzzAnswers reads what HAProxy says. Whatever is taken for servers means the
// same when it is said again, and no name in it can be more than one word of a
// command.
func FuzzAnswers(f *testing.F) {
	for _, text := range []string{states, stats, procs} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if all, err := parseServers(text); err == nil {
			again := header
			for _, s := range all {
				host, port, err := net.SplitHostPort(s.address)
				if err != nil || strings.ContainsAny(s.name, " ;/\n\\") {
					t.Fatalf("server %+v: %v", s, err)
				}
				again += fmt.Sprintf("%d %s 1 %s %s 2 %d 1 1 0 1 0 2 6 0 0 0 - %s - 0 0 - - 0\n", s.proxy, s.backend, s.name, host, s.admin, port)
			}
			if read, err := parseServers(again + "\n"); err != nil || !slices.Equal(read, all) {
				t.Fatalf("%v, and said again %v: %v", all, read, err)
			}
		}
		if all, err := parseSessions(text, "shop"); err == nil {
			for name, n := range all {
				if n < 0 {
					t.Fatalf("%d sessions of %s", n, name)
				}
			}
		}
		if pids, err := parseOld(text); err == nil {
			for _, pid := range pids {
				if pid <= 1 || !strings.Contains(text, fmt.Sprint(pid)) {
					t.Fatalf("process %d", pid)
				}
			}
		}
	})
}

// fake is a stats socket that says what a test wants.
func fake(t *testing.T, say func(line string, c net.Conn)) *Driver {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
				say(strings.TrimSpace(line), c)
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	d, err := New(Config{Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func shop() *frontend.Spec {
	return &frontend.Spec{Service: "shop", Sites: map[draas.SiteID][]frontend.Server{
		"a": {{Address: "127.0.0.1:21001"}, {Address: "[::1]:21002"}}, "b": {{Address: "127.0.0.1:21003"}}}}
}

// usual answers as HAProxy does that leads to a.
func usual(line string, c net.Conn) {
	switch {
	case strings.HasPrefix(line, "show servers state"):
		_, _ = io.WriteString(c, states)
	case strings.HasPrefix(line, "show stat"):
		_, _ = io.WriteString(c, stats)
	default:
		_, _ = io.WriteString(c, "\n")
	}
}

func TestUnknownIsAnError(t *testing.T) {
	for what, c := range map[string]struct {
		say  func(string, net.Conn)
		spec func(*frontend.Spec)
		want error
	}{
		"it ends in the middle": {say: func(_ string, c net.Conn) { _, _ = io.WriteString(c, states[:len(states)-30]) }, want: io.ErrUnexpectedEOF},
		"it says too much": {say: func(_ string, c net.Conn) {
			_, _ = io.Copy(c, io.LimitReader(zeros{}, 2*answerLimit))
		}},
		"a backend without servers": {say: func(_ string, c net.Conn) { _, _ = io.WriteString(c, header+"\n") }},
		"another backend":           {say: func(_ string, c net.Conn) { _, _ = io.WriteString(c, strings.ReplaceAll(states, "shop", "mail")) }},
		"a server of two sites":     {say: usual, spec: func(s *frontend.Spec) { s.Sites["b"] = s.Sites["a"] }},
		"a server of no site":       {say: usual, spec: func(s *frontend.Spec) { delete(s.Sites, "a") }, want: frontend.ErrTampered},
		"a site drained beside the one that is led to": {say: usual, want: frontend.ErrTampered,
			spec: func(s *frontend.Spec) {
				s.Sites["b"], s.Sites["a"] = append(s.Sites["b"], s.Sites["a"][1]), s.Sites["a"][:1]
			}},
	} {
		d, spec := fake(t, c.say), shop()
		if c.spec != nil {
			c.spec(spec)
		}
		got, err := d.See(t.Context(), spec)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: leads to %s, %v; want %v", what, got, err, c.want)
		}
	}
	if got, err := fake(t, usual).See(t.Context(), shop()); err != nil || got != (frontend.Leading{Site: "a"}) {
		t.Errorf("leads to %s, %v", got, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestLeadSaysWhatFailed(t *testing.T) {
	if err := fake(t, usual).Lead(t.Context(), shop(), frontend.Leading{Site: "c"}); err == nil {
		t.Error("led to a site without servers")
	}
	refuse := func(line string, c net.Conn) {
		if strings.HasPrefix(line, "set ") {
			_, _ = io.WriteString(c, "Permission denied\n\n")
			return
		}
		usual(line, c)
	}
	if err := fake(t, refuse).Lead(t.Context(), shop(), frontend.Leading{Site: "b"}); err == nil || !strings.Contains(err.Error(), "Permission denied") {
		t.Errorf("not allowed: %v", err)
	}
	for what, silent := range map[string]bool{"sessions that do not end": false, "a socket that says nothing": true} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := fake(t, func(line string, c net.Conn) {
			if silent {
				<-ctx.Done()
				return
			}
			usual(line, c)
		}).Lead(ctx, shop(), frontend.Leading{Site: "b"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
		cancel()
	}
	if _, err := New(Config{Socket: "x", Backends: map[draas.ServiceID]string{"shop": "a;b"}}); err == nil {
		t.Error("the name of a backend is two commands")
	}
	if err := fake(t, usual).Lead(t.Context(), &frontend.Spec{Service: "a b"}, frontend.Leading{}); err == nil {
		t.Error("the name of a service is two words")
	}
	gone, err := New(Config{Socket: filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gone.See(t.Context(), shop()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no HAProxy: %v", err)
	}
}
