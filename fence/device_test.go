package fence_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas/fence"
)

// host is a machine that has a power switch: files that scripts read and write.
// What `status` and `off` do is in the files of that name, to be replaced.
type host struct {
	*testing.T
	dir string
}

func newHost(t *testing.T) host {
	h := host{t, shortDir(t)}
	h.write("power", "on\n", 0o600)
	h.script("off", `env | grep ^DRAAS_ | sort | tr '\n' ' ' >>log; echo off >power`)
	h.script("status", `echo look >>log; case $(cat power) in off) exit 0;; on) exit 1;; esac; echo "cannot tell"; exit 7`)
	return h
}

func (h host) write(name, text string, mode os.FileMode) {
	h.Helper()
	tmp := filepath.Join(h.dir, name+".new")
	if err := errors.Join(os.WriteFile(tmp, []byte(text), mode), os.Rename(tmp, filepath.Join(h.dir, name))); err != nil {
		h.Fatal(err)
	}
}

func (h host) script(name, does string) {
	h.Helper()
	h.write(name, "cd "+h.dir+"\n"+does+"\n", 0o600)
}

func (h host) read(name string) string {
	b, _ := os.ReadFile(filepath.Join(h.dir, name)) // it may not be there yet
	return string(b)
}

func (h host) device(timeout, stay time.Duration) fence.Device {
	h.Helper()
	return must[fence.Device](h.T)(fence.NewDevice(fence.DeviceSpec{Kind: fence.DeviceExec, Timeout: timeout, Stay: stay,
		Off: []string{"sh", filepath.Join(h.dir, "off")}, Status: []string{"sh", filepath.Join(h.dir, "status")}}))
}

func TestExecDevice(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := h.device(10*time.Second, 600*time.Millisecond)
	if p, err := d.Status(t.Context()); p != fence.PowerOn {
		t.Fatalf("%s, %v", p, err)
	}
	start := time.Now()
	if err := d.Off(t.Context(), "shop", "primary", 7); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 600*time.Millisecond {
		t.Errorf("confirmed after %v: before it has stayed off", took)
	}
	if log := h.read("log"); !strings.Contains(log, "DRAAS_EPOCH=7 DRAAS_SERVICE=shop DRAAS_SITE=primary") || strings.Count(log, "look") != 1+5 {
		t.Errorf("the commands were run with, or as often as:\n%s", log)
	}
	if p, err := d.Status(t.Context()); p != fence.PowerOff {
		t.Errorf("%s, %v", p, err)
	}
	if err := d.Off(t.Context(), "shop", "primary", 7); err != nil {
		t.Errorf("off when it is off: %v", err)
	}
}

// What is not off, and what must not be taken for it.
func TestExecDeviceNotOff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		off, status string
		want        string
	}{
		"it stays on":               {off: "exit 0", want: "it is on"},
		"off fails":                 {off: "echo no such host; exit 3", want: "no such host"},
		"nobody can tell":           {status: "echo no route; exit 255", want: "no route"},
		"status hangs":              {status: "sleep 100", want: "killed after"},
		"it comes on again":         {off: "echo off >power; (sleep 0.15; echo on >p; mv p power) >/dev/null 2>&1 &", want: "it is on"},
		"it cannot be seen to stay": {status: `[ $(cat power) = off ] || exit 1; n=$(cat n 2>/dev/null || echo 0); echo $((n+1)) >n; [ $((n%3)) -lt 2 ] || exit 9`, want: "looks that saw it off"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			if c.off != "" {
				h.script("off", c.off)
			}
			if c.status != "" {
				h.script("status", c.status)
			}
			err := h.device(2*time.Second, 600*time.Millisecond).Off(t.Context(), "shop", "primary", 1)
			if !errors.Is(err, fence.ErrNotOff) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), "killed after 10s") { // what a look may take where there is time
				t.Errorf("of less than 3 s: %v", err)
			}
		})
	}
	t.Run("ended by who asked", func(t *testing.T) {
		t.Parallel()
		h := newHost(t)
		h.script("off", "sleep 100")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := h.device(time.Minute, time.Minute).Off(ctx, "shop", "primary", 1); !errors.Is(err, fence.ErrNotOff) || time.Since(start) > 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A host that is off only at the second attempt is off.
func TestExecDeviceSecondAttempt(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.script("off", "[ -e tried ] && echo off >power; touch tried; exit 1")
	if err := h.device(10*time.Second, 0).Off(t.Context(), "shop", "primary", 1); err != nil {
		t.Fatal(err)
	}
}

func TestDeviceRefuses(t *testing.T) {
	for name, s := range map[string]fence.DeviceSpec{
		"no kind":         {},
		"no off":          {Kind: fence.DeviceExec, Status: []string{"true"}},
		"no status":       {Kind: fence.DeviceExec, Off: []string{"true"}},
		"no port":         {Kind: fence.DeviceIPMI, Address: "192.0.2.1", User: "u", PasswordFile: "f"},
		"no user":         {Kind: fence.DeviceIPMI, Address: "192.0.2.1:623", PasswordFile: "f"},
		"user an option":  {Kind: fence.DeviceIPMI, Address: "192.0.2.1:623", User: "-P", PasswordFile: "f"},
		"no password":     {Kind: fence.DeviceIPMI, Address: "192.0.2.1:623", User: "u"},
		"address in bits": {Kind: fence.DeviceIPMI, Address: "fd00::1:623", User: "u", PasswordFile: "f"},
	} {
		if _, err := fence.NewDevice(s); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// bmc is OpenIPMI's simulator of a management controller, with the power switch
// of a host.
type bmc struct {
	host
	address  string
	password string // its file
}

func newBMC(t *testing.T) bmc {
	t.Helper()
	for tool, pkg := range map[string]string{"ipmi_sim": "openipmi", "ipmitool": "ipmitool"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("the test of IPMI needs %s: apt-get install %s (%v)", tool, pkg, err)
		}
	}
	addr := freeAddr(t)
	ip, udp, _ := strings.Cut(addr, ":")
	b := bmc{host: newHost(t), address: addr}
	b.password = filepath.Join(b.dir, "password")
	b.write("password", "correct-horse", 0o600)
	b.write("chassis", "#!/bin/sh\ncd "+b.dir+`
shift # the controller
case "$1 $2" in
"get power") if [ "$(cat power)" = on ]; then echo power:1; else echo power:0; fi ;;
"set power") if [ "$3" = 1 ]; then echo on >power; else echo off >power; fi; [ ! -e after ] || . ./after ;;
esac
`, 0o700)
	b.write("lan.conf", fmt.Sprintf(`name "bmc"
set_working_mc 0x20
startlan 1
  addr %s %s
  priv_limit admin
  allowed_auths_admin none md2 md5 straight
  guid a123456789abcdefa123456789abcdef
endlan
chassis_control "%s/chassis 0x20"
user 1 true "" "" user 10 none
user 2 true "draas" "correct-horse" admin 10 none md2 md5 straight
`, ip, udp, b.dir), 0o600)
	b.write("commands", "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n", 0o600)
	cmd := exec.Command("ipmi_sim", "-c", "lan.conf", "-f", "commands", "-s", b.dir, "-n")
	cmd.Dir = b.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	said := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = said, said
	// It ends with its input, should this process die.
	in := must[interface{ Close() error }](t)(cmd.StdinPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait := sync.OnceValue(cmd.Wait)
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = wait() // "signal: killed"
		_ = in.Close()
		if t.Failed() {
			t.Logf("ipmi_sim said:\n%s", said.String())
		}
	})
	d := b.device(t, time.Second, 0)
	eventually(t, "the controller answers", func() bool { p, _ := d.Status(t.Context()); return p == fence.PowerOn })
	return b
}

func (b bmc) device(t *testing.T, timeout, stay time.Duration) fence.Device {
	t.Helper()
	// The simulator knows no suite 17.
	return must[fence.Device](t)(fence.NewDevice(fence.DeviceSpec{Kind: fence.DeviceIPMI, Address: b.address, User: "draas",
		PasswordFile: b.password, Cipher: 3, Timeout: timeout, Stay: stay}))
}

func TestIPMIDevice(t *testing.T) {
	t.Parallel()
	b := newBMC(t)
	d := b.device(t, 10*time.Second, 500*time.Millisecond)
	if err := d.Off(t.Context(), "shop", "primary", 3); err != nil {
		t.Fatal(err)
	}
	if b.read("power") != "off\n" {
		t.Fatal("confirmed, but the host is on")
	}
	if p, err := d.Status(t.Context()); p != fence.PowerOff {
		t.Errorf("%s, %v", p, err)
	}
	if err := d.Off(t.Context(), "shop", "primary", 3); err != nil {
		t.Errorf("off when it is off: %v", err)
	}
}

func TestIPMIDeviceComesOnAgain(t *testing.T) {
	t.Parallel()
	b := newBMC(t)
	b.write("after", "[ $3 = 1 ] || (sleep 0.3; echo on >p; mv p power) >/dev/null 2>&1 &\n", 0o600)
	err := b.device(t, 5*time.Second, time.Second).Off(t.Context(), "shop", "primary", 3)
	if !errors.Is(err, fence.ErrNotOff) || !strings.Contains(err.Error(), "it is on") {
		t.Errorf("%v", err)
	}
}

func TestIPMIDeviceWrongPassword(t *testing.T) {
	t.Parallel()
	b := newBMC(t)
	b.write("password", "battery-staple", 0o600)
	d := b.device(t, time.Second, 0)
	if p, err := d.Status(t.Context()); p != fence.PowerUnknown || err == nil || strings.Contains(err.Error(), "staple") {
		t.Errorf("%s, %v", p, err)
	}
	err := d.Off(t.Context(), "shop", "primary", 3)
	if !errors.Is(err, fence.ErrNotOff) || strings.Contains(err.Error(), "staple") {
		t.Errorf("%v", err)
	}
	if b.read("power") != "on\n" {
		t.Error("switched off without the password")
	}
}

// A controller that does not answer tells nothing about its host.
func TestIPMIDeviceSilent(t *testing.T) {
	t.Parallel()
	d := must[fence.Device](t)(fence.NewDevice(fence.DeviceSpec{Kind: fence.DeviceIPMI, Address: freeAddr(t), User: "draas",
		PasswordFile: "/dev/null", Timeout: 300 * time.Millisecond}))
	if err := d.Off(t.Context(), "shop", "primary", 3); !errors.Is(err, fence.ErrNotOff) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if p, err := d.Status(ctx); p != fence.PowerUnknown || err == nil {
		t.Errorf("%s, %v", p, err)
	}
}

// The password is in a file that only ipmitool opens: not in its arguments, its
// environment, a log or an error.
func TestIPMIDevicePasswordIsNotShown(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	tool := filepath.Join(dir, "ipmitool")
	script := "#!/bin/sh\n{ echo \"$@\"; env; } >>" + dir + "/seen\necho Chassis Power is off\n"
	if err := errors.Join(os.WriteFile(tool, []byte(script), 0o700), os.WriteFile(dir+"/pw", []byte("correct-horse"), 0o600)); err != nil {
		t.Fatal(err)
	}
	d := must[fence.Device](t)(fence.NewDevice(fence.DeviceSpec{Kind: fence.DeviceIPMI, Ipmitool: tool, Address: "[fd00::1]:6230", User: "draas", PasswordFile: dir + "/pw"}))
	if err := d.Off(t.Context(), "shop", "primary", 3); err != nil {
		t.Fatal(err)
	}
	seen := string(must[[]byte](t)(os.ReadFile(dir + "/seen")))
	if strings.Contains(seen, "horse") || !strings.Contains(seen, "-H fd00::1 -p 6230 -U draas -f "+dir+"/pw -C 17 ") {
		t.Errorf("ipmitool saw:\n%s", seen)
	}
}
