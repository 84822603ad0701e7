package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// unit is what this test, in systemd's place, made of a unit file: its
// settings, which may not repeat.
type unit map[string]string

// notPlayed are the settings that the test reads over: order and restarts are
// up to the test, and the rest narrows what a process may do by means that
// only systemd has, or that need more rights than a container gives.
const notPlayed = " Description Documentation DefaultDependencies Before After Wants Requires Conflicts WantedBy RemainAfterExit ExecReload Restart RestartSec RestartPreventExitStatus TimeoutStartSec TimeoutStopSec" +
	" RuntimeDirectoryPreserve OOMScoreAdjust LimitNOFILE PrivateDevices ProtectKernelModules ProtectControlGroups" +
	" RestrictAddressFamilies RestrictNamespaces LockPersonality MemoryDenyWriteExecute" +
	" SystemCallArchitectures SystemCallFilter "

// played are the settings that start obeys, and the only value it knows.
var played = map[string]string{
	"Type": "", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
	"PrivateTmp": "yes", "ProtectKernelTunables": "yes",
	"User": "", "Group": "", "AmbientCapabilities": "", "CapabilityBoundingSet": "", "ExecStart": "",
	"WatchdogSec": "", "StateDirectory": "", "StateDirectoryMode": "", "RuntimeDirectory": "", "RuntimeDirectoryMode": "",
}

func parseUnit(text string) (unit, error) {
	u := make(unit)
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '[' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		only, known := played[key]
		switch _, twice := u[key]; {
		case !ok || twice || strings.HasSuffix(value, `\`):
			return nil, fmt.Errorf("line %d: %q: this test cannot read it", n+1, line)
		case strings.Contains(notPlayed, " "+key+" "):
			continue
		case !known || only != "" && value != only:
			return nil, fmt.Errorf("line %d: %q: this test does not know how to play it", n+1, line)
		}
		u[key] = value
	}
	for key := range played {
		if _, ok := u[key]; !ok && (key != "WatchdogSec" || u["Type"] == "notify") {
			return nil, fmt.Errorf("no %s: this test plays units that have it", key)
		}
	}
	return u, nil
}

// capabilities puts a unit's list as setpriv wants it.
func capabilities(list string) string {
	all := "-all"
	for _, c := range strings.Fields(list) {
		all += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	return all
}

// confine is what ProtectSystem=strict and the other protections do to the
// mounts, before it runs its arguments. The stand-in for systemctl keeps its
// state where the real one would ask systemd.
const confine = `
for d in /var/lib/$0 /run/$0 /run/stand-in; do mount --bind $d $d; done
for d in /proc/sys /sys; do mount --rbind $d $d; done
for d in / /etc /usr /var /run /proc/sys /sys; do mount -o remount,bind,ro $d; done
for d in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs $d; done
for d in /home /root; do mount -t tmpfs -o ro,mode=000 tmpfs $d; done
export WATCHDOG_PID=$$
exec "$@"`

// command is argv run as the unit says.
func (u unit) command(m *machine, notify string, argv ...string) (*exec.Cmd, error) {
	var watchdog time.Duration
	if u["WatchdogSec"] != "" {
		var err error
		if watchdog, err = time.ParseDuration(u["WatchdogSec"]); err != nil {
			return nil, fmt.Errorf("read WatchdogSec: %w", err)
		}
	}
	if u["StateDirectory"] != u["RuntimeDirectory"] {
		return nil, errors.New("the test wants one name for both directories")
	}
	for key, dir := range map[string]string{"StateDirectory": "/var/lib/", "RuntimeDirectory": "/run/"} {
		m.run("/", "install", "-d", "-m", u[key+"Mode"], "-o", u["User"], "-g", u["Group"], dir+u[key])
	}
	cmd := m.Command("/", append([]string{
		"unshare", "--mount", "--propagation", "private", "sh", "-euc", confine, u["StateDirectory"],
		"setpriv", "--reuid", u["User"], "--regid", u["Group"], "--init-groups",
		"--inh-caps", capabilities(u["AmbientCapabilities"]), "--ambient-caps", capabilities(u["AmbientCapabilities"]),
		"--bounding-set", capabilities(u["CapabilityBoundingSet"]), "--no-new-privs", "--pdeathsig", "KILL", "--",
	}, argv...)...)
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
		"USER=" + u["User"], "LOGNAME=" + u["User"], "HOME=/var/lib/draas", "SHELL=/usr/sbin/nologin",
		"STATE_DIRECTORY=/var/lib/" + u["StateDirectory"], "RUNTIME_DIRECTORY=/run/" + u["RuntimeDirectory"],
		"NOTIFY_SOCKET=" + notify, "WATCHDOG_USEC=" + strconv.FormatInt(watchdog.Microseconds(), 10),
	}
	return cmd, nil
}

// play does what `systemctl start` does with a unit of Type=oneshot.
func (m *machine) play(name string) {
	m.t.Helper()
	u := m.unit(name)
	if u["Type"] != "oneshot" {
		m.t.Fatalf("%s is of type %s", name, u["Type"])
	}
	cmd, err := u.command(m, "", strings.Fields(u["ExecStart"])...)
	if err != nil {
		m.t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %s: %v: %s", m.name, name, err, out)
	}
}

// service is a unit that was started.
type service struct {
	m     *machine
	name  string
	cmd   *exec.Cmd
	said  output
	ended chan struct{}
	err   error // of the process, once ended

	mu   sync.Mutex
	told map[string]int // notifications, and how often each came
}

// start does what `systemctl start` does with the unit that was installed; it
// does not wait for READY=1.
func (m *machine) start(name string) *service {
	m.t.Helper()
	u := m.unit(name)
	socket := "/run/systemd/notify-" + name
	_ = os.Remove(m.Path(socket)) // of an earlier start
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.Path(socket), Net: "unixgram"})
	if err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(m.Path(socket), 0o777); err != nil {
		m.t.Fatal(err)
	}
	s := &service{m: m, name: name, ended: make(chan struct{}), told: make(map[string]int)}
	heard := make(chan struct{})
	go func() { defer close(heard); s.hear(conn) }()
	m.t.Cleanup(func() { _ = conn.Close(); <-heard })

	s.cmd, err = u.command(m, socket, strings.Fields(u["ExecStart"])...)
	if err != nil {
		m.t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	s.cmd.WaitDelay = time.Second // a check of it may hold its output open
	if err := s.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() { defer close(s.ended); s.err = s.cmd.Wait() }()
	m.t.Cleanup(func() {
		s.kill()
		if m.t.Failed() {
			m.t.Logf("%s: %s: %v\n%s", m.name, name, s.err, &s.said)
		}
	})
	return s
}

func (m *machine) unit(name string) unit {
	m.t.Helper()
	text, err := os.ReadFile(m.Path("/etc/systemd/system/" + name))
	if err != nil {
		m.t.Fatal(err)
	}
	u, err := parseUnit(string(text))
	if err != nil {
		m.t.Fatalf("%s: %v", name, err)
	}
	return u
}

// hear counts notifications until the socket is closed.
func (s *service) hear(conn *net.UnixConn) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		s.mu.Lock()
		for line := range strings.Lines(string(buf[:n])) {
			s.told[strings.TrimSpace(line)]++
		}
		s.mu.Unlock()
	}
}

// waitFor waits until the service has sent a notification.
func (s *service) waitFor(limit time.Duration, notification string) {
	s.m.t.Helper()
	wait(s.m.t, limit, s.m.name+": "+s.name+" says "+notification, func() bool {
		select {
		case <-s.ended:
			s.m.t.Fatalf("%s: %s ended: %v", s.m.name, s.name, s.err)
		default:
		}
		return s.has(notification)
	})
}

func (s *service) has(notification string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told[notification] > 0
}

func (s *service) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.ended
}

// stop does what `systemctl stop` does; a unit that fails at it is reported.
func (s *service) stop() {
	s.m.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.m.t.Errorf("%s: stop %s: %v", s.m.name, s.name, err)
	}
	select {
	case <-s.ended:
		if s.err != nil {
			s.m.t.Errorf("%s: %s stopped: %v", s.m.name, s.name, s.err)
		}
	case <-time.After(10 * time.Second):
		s.m.t.Errorf("%s: %s does not stop", s.m.name, s.name)
	}
}
