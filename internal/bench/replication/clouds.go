package replication

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/draasd/draas/internal/lab/fakecloud"
)

// Clouds is two clouds in memory, east and west, that obey a line at a time:
// they are a process of their own, so that what they cost is nobody else's.
//
//	latency 1ms     of each request from now on
//	estate          fills east with some ten thousand objects
//	change N        changes N of its networks
//	objects N       fills a container of east's with N objects
//	requests        tells how many came since it was asked last
type Clouds struct {
	east, west *fakecloud.Cloud
	networks   []string
	changed    int
}

// ServeClouds serves until in ends. The first lines that it writes are a
// clouds.yaml, up to "end".
func ServeClouds(in io.Reader, out io.Writer) error {
	var c Clouds
	var err error
	if c.east, err = fakecloud.Start(fakecloud.Options{Seed: 1, TokenLife: 24 * time.Hour}); err != nil {
		return err
	}
	defer c.east.Close()
	if c.west, err = fakecloud.Start(fakecloud.Options{Seed: 2, TokenLife: 24 * time.Hour}); err != nil {
		return err
	}
	defer c.west.Close()
	if _, err := fmt.Fprintf(out, "clouds:\n%s%send\n", c.east.YAMLEntry("east"), c.west.YAMLEntry("west")); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		said, err := c.obey(lines.Text())
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, said); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (c *Clouds) obey(line string) (any, error) {
	verb, rest, _ := strings.Cut(line, " ")
	var n int
	if verb == "change" || verb == "objects" {
		if _, err := fmt.Sscan(rest, &n); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	switch verb {
	case "latency":
		d, err := time.ParseDuration(rest)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		c.east.SetLatency(d)
		c.west.SetLatency(d)
		return "done", nil
	case "estate":
		return c.fill()
	case "change":
		return "done", c.change(n)
	case "objects":
		data := fakecloud.Bytes([]byte("the same in all"))
		for i := range n {
			c.east.Hand().Object("crowd", fmt.Sprintf("object-%08d", i), data, nil)
		}
		return n, nil
	case "requests":
		n := c.east.Requests() + c.west.Requests()
		c.east.ResetCounters()
		c.west.ResetCounters()
		return n, nil
	}
	return nil, fmt.Errorf("%q is nothing that the clouds know", line)
}

// fill makes the objects of a hundred projects.
func (c *Clouds) fill() (objects int, err error) {
	h := c.east.Hand()
	mk := func(kind string, f fakecloud.Fields) string {
		objects++
		return h.Make(kind, f)
	}
	mk("role", fakecloud.Fields{"name": "operator"})
	for p := range 100 {
		project := mk("project", fakecloud.Fields{"name": fmt.Sprintf("project-%d", p)})
		for u := range 5 {
			user := mk("user", fakecloud.Fields{"name": fmt.Sprintf("user-%d-%d", p, u)})
			if err := h.Assign("operator", user, project); err != nil {
				return objects, err
			}
			objects++
		}
		for n := range 34 {
			id := mk("network", fakecloud.Fields{"name": fmt.Sprintf("net-%d", n), "project_id": project})
			mk("subnet", fakecloud.Fields{"network_id": id, "project_id": project, "ip_version": 4, "cidr": "10.8.0.0/24"})
			c.networks = append(c.networks, id)
		}
		objects++ // the project's default group
		for g := range 9 {
			id := mk("security_group", fakecloud.Fields{"name": fmt.Sprintf("group-%d", g), "project_id": project})
			h.Make("security_group_rule", fakecloud.Fields{"security_group_id": id, "project_id": project, "direction": "ingress", "ethertype": "IPv4",
				"protocol": "tcp", "port_range_min": 443, "port_range_max": 443, "remote_ip_prefix": "10.0.0.0/8"})
		}
		for r := range 10 {
			mk("router", fakecloud.Fields{"name": fmt.Sprintf("router-%d", r), "project_id": project})
		}
	}
	return objects, nil
}

// change changes networks, each time others.
func (c *Clouds) change(n int) error {
	for range n {
		c.changed++
		id := c.networks[c.changed*37%len(c.networks)]
		if err := c.east.Hand().Change("network", id, fakecloud.Fields{"description": fmt.Sprintf("changed %d", c.changed)}); err != nil {
			return err
		}
	}
	return nil
}

// clouds are Clouds from outside.
type clouds struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	yaml string
}

func (b *bench) startClouds(ctx context.Context) (*clouds, error) {
	c := &clouds{}
	c.cmd, _ = command(ctx, b.dir, nil, b.o.Self, "-serve-clouds")
	c.cmd.Stdout, c.cmd.Stderr = nil, os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start clouds: %w", err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start clouds: %w", err)
	}
	c.in, c.out = in, bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start clouds: %w", err)
	}
	for {
		line, err := c.out.ReadString('\n')
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start clouds: %w", err), c.stop())
		}
		if line == "end\n" {
			return c, nil
		}
		c.yaml += line
	}
}

func (c *clouds) stop() error {
	err := c.in.Close()
	return errors.Join(err, c.cmd.Wait())
}

// tell gives an order and its answer, which is a number where n is not nil.
func (c *clouds) tell(order string, n *int) error {
	if _, err := fmt.Fprintln(c.in, order); err != nil {
		return fmt.Errorf("tell the clouds: %w", err)
	}
	line, err := c.out.ReadString('\n')
	if err == nil && n != nil {
		_, err = fmt.Sscan(line, n)
	}
	if err != nil {
		return fmt.Errorf("tell the clouds %s: %w", order, err)
	}
	return nil
}

// cpu is the processor time that the clouds have used.
func (c *clouds) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read processor time of the clouds: %w", err)
	}
	return parseStat(string(text))
}

// parseStat reads user and system time from /proc/PID/stat (proc(5), fields 14
// and 15), whose ticks are 10 ms for programs whatever the kernel's are.
func parseStat(text string) (time.Duration, error) {
	const tick, utime = 10 * time.Millisecond, 11
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= utime+1 {
		return 0, fmt.Errorf("%q is no line of a process", text)
	}
	var user, system int64
	if _, err := fmt.Sscan(fields[utime]+" "+fields[utime+1], &user, &system); err != nil {
		return 0, fmt.Errorf("%q is no line of a process: %w", text, err)
	}
	return time.Duration(user+system) * tick, nil
}
