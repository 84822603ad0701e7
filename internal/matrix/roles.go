package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
)

// Role runs one of the roles in which the program starts itself in machines.
// ok is false for other arguments.
func Role(ctx context.Context, args []string, in io.Reader, out io.Writer) (ok bool, err error) {
	if len(args) == 0 {
		return false, nil
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	switch args[0] {
	case roleWAN:
		ways := &Ways{}
		flags.Var(ways, "way", "how long a packet is under way")
		if err := flags.Parse(args[1:]); err != nil {
			return true, err
		}
		return true, runWAN(ctx, ways)
	case roleCounter:
		var o counterOptions
		flags.StringVar(&o.Listen, "listen", "", "where users ask")
		flags.StringVar(&o.Replica, "replica", "", "where the other copy sends")
		flags.StringVar(&o.Other, "other", "", "the other copy")
		flags.DurationVar(&o.Lag, "lag", 0, "how old a write is when it is sent there")
		flags.StringVar(&o.Control, "control", "", "socket of the site's daemon")
		flags.StringVar(&o.Service, "service", "", "the service's name")
		flags.StringVar(&o.Site, "site", "", "the site's name")
		if err := flags.Parse(args[1:]); err != nil {
			return true, err
		}
		return true, runCounter(ctx, o)
	case roleClaims:
		device := flags.String("device", "eth0", "where to ask")
		ours := flags.String("ours", "", "own address")
		theirs := flags.String("theirs", "", "the address that is asked for")
		if err := flags.Parse(args[1:]); err != nil {
			return true, err
		}
		from, err1 := netip.ParseAddr(*ours)
		to, err2 := netip.ParseAddr(*theirs)
		if err := errors.Join(err1, err2); err != nil {
			return true, err
		}
		return true, runClaims(ctx, *device, from, to, in, out)
	case roleClients:
		var askers []asker
		if len(args) != 2 {
			return true, errors.New("want the askers")
		}
		if err := json.Unmarshal([]byte(args[1]), &askers); err != nil {
			return true, fmt.Errorf("read askers: %w", err)
		}
		return true, runClients(ctx, askers, in, out)
	}
	return false, nil
}
