package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/connect"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/schemes/vip/keepalived"
)

func bindFrontend(p *program, f *flag.FlagSet) action {
	path, logs := configFlag(f), bindLog(f)
	socket := f.String("socket", "", "status: `PATH` of the frontend's control socket, instead of the file's")
	name := f.String("name", "", "status: the `FRONTEND`, where the certificate here is not its own")
	router := f.Int("router", 51, "keepalived: the first of the virtual router ids, `1 to 255`, of which each frontend gets one")
	asJSON := f.Bool("json", false, "status: print JSON")
	return func(ctx context.Context, args []string) error {
		switch {
		case len(args) == 0:
			log, err := logs.logger(p)
			if err != nil {
				return err
			}
			return p.refused(p.server.frontend(ctx, configPath(*path), log))
		case args[0] == "keepalived" && len(args) == 2:
			return p.refused(p.keepalived(configPath(*path), *name, args[1], *router))
		case !frontendAsks[args[0]] || (args[0] == "status") != (len(args) == 1):
			return usagef("want: draasd frontend -c FILE, draasd frontend status, draasd frontend yield VIP, draasd frontend holds VIP, or draasd frontend keepalived VIP")
		}
		at := *socket
		if at == "" {
			var err error
			if at, err = p.frontendSocket(configPath(*path), *name); err != nil {
				return p.refused(err)
			}
		}
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		client := api.Unix(at)
		defer client.Close()
		if args[0] == "yield" {
			return yield(ctx, p, client, args[1])
		}
		s, err := client.Frontend(ctx)
		switch {
		case err != nil:
			return err
		case args[0] == "holds":
			return holds(p, s, args[1])
		case *asJSON:
			return writeJSON(p.stdout, s, "  ")
		}
		writeFrontend(p.stdout, s)
		return nil
	}
}

// frontendSocket is the control socket of a frontend of this machine.
func (p *program) frontendSocket(path, name string) (string, error) {
	_, x, err := p.frontendHere(path, name)
	return x.Control, err
}

// frontendHere is the file and the frontend of this machine in it.
func (p *program) frontendHere(path, name string) (*config.Config, config.Frontend, error) {
	c, err := p.server.load(path)
	if err != nil {
		return nil, config.Frontend{}, err
	}
	if name == "" && len(c.Frontends) == 1 {
		name = c.Frontends[0].ID
	}
	if name == "" {
		own, err := connect.CommonName(c.TLS.Cert)
		if err != nil {
			return nil, config.Frontend{}, usagef("the file has %d frontends: --name says which (%v)", len(c.Frontends), err)
		}
		name = own
		if i := slices.IndexFunc(c.Frontends, func(x config.Frontend) bool { return string(x.Member) == own }); i >= 0 {
			name = c.Frontends[i].ID
		}
	}
	x, ok := c.Frontend(name)
	if !ok {
		return nil, config.Frontend{}, usagef("there is no [frontend.%s] in %s: --name names another", name, path)
	}
	return c, x, nil
}

// keepalived prints what belongs into a keepalived's file that is to follow a
// virtual IP.
func (p *program) keepalived(path, name, id string, router int) error {
	c, x, err := p.frontendHere(path, name)
	if err != nil {
		return err
	}
	v, ok := c.VIP(id)
	rank := slices.Index(v.Holders, x.ID)
	switch {
	case !ok || rank < 0:
		return usagef("there is no [vip.%s] in %s that %s may have", id, path, x.ID)
	case v.SetBy != config.VIPByKeepalived:
		return usagef("vip.%s.set_by is %q: draas sets its addresses itself", id, v.SetBy)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	conf := keepalived.Config{Name: id, Router: router + rank, Track: v.TrackFile, User: "draas",
		Check: []string{self, "frontend", "status", "--socket", x.Control}}
	for _, h := range v.At(x.ID) {
		conf.Addresses = append(conf.Addresses, keepalived.Address{Interface: h.Interface, Prefix: h.Prefix})
	}
	text, err := keepalived.Snippet(conf)
	if err != nil {
		return err
	}
	_, err = io.WriteString(p.stdout, text)
	return err
}

// writeFrontend draws how a frontend is.
func writeFrontend(w io.Writer, s *api.FrontendStatus) {
	writeText(w, "", fmt.Sprintf("frontend %s, %s, up since %s", s.Frontend, s.Kind, s.Started.Format(time.DateTime)))
	fmt.Fprintln(w)
	rows := [][]string{{"FOLLOWS", "HEARD", "CONFIG", "STATE"}}
	for _, m := range s.Members {
		heard, conf, state := "never", "-", "not heard yet"
		if m.HeardMS >= 0 {
			heard, conf, state = fmt.Sprintf("%.1f s ago", float64(m.HeardMS)/1000), "other", "answers"
			if m.SameConfig {
				conf = "same"
			}
		}
		rows = append(rows, []string{string(m.Member), heard, conf, cmp.Or(m.Error, state)})
	}
	writeTable(w, "", rows)
	for i := range s.Services {
		fmt.Fprintln(w)
		writeFrontendService(w, &s.Services[i])
	}
	writeVIPs(w, s.VIPs)
	for _, warning := range s.Warnings {
		writeText(w, "\nwarning: ", warning)
	}
}

// frontendAsks is what can be asked of a frontend that runs.
var frontendAsks = map[string]bool{"status": true, "yield": true, "holds": true}

// yield has the frontend of this host give a virtual IP up.
func yield(ctx context.Context, p *program, client *api.Client, vip string) error {
	y, err := client.Yield(ctx, vip)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%s has vip %s\n", y.Holder, y.VIP)
	return nil
}

// holds succeeds when this host has a virtual IP, for scripts.
func holds(p *program, s *api.FrontendStatus, vip string) error {
	for _, v := range s.VIPs {
		switch {
		case v.VIP != vip:
		case v.Has:
			fmt.Fprintf(p.stdout, "%s has vip %s\n", s.Frontend, vip)
			return nil
		case v.Trouble != "":
			return p.refused(fmt.Errorf("%s cannot have vip %s: %s", s.Frontend, vip, v.Trouble))
		default:
			return p.refused(fmt.Errorf("%s does not have vip %s: it is with %s", s.Frontend, vip, cmp.Or(v.Holder, "nobody that is known")))
		}
	}
	return usagef("the file has no [vip.%s] that %s may have", vip, s.Frontend)
}

// writeVIPs draws the virtual IPs that a frontend may have.
func writeVIPs(w io.Writer, vips []api.FrontendVIP) {
	for i := range vips {
		v := &vips[i]
		state := "nobody is known to have it"
		switch {
		case v.Has:
			state = fmt.Sprintf("here since %s, for %.2f s unless it is renewed", v.Since.Format(time.DateTime), float64(v.LeaseLeftMS)/1000)
		case v.Holder != "":
			state = "with " + v.Holder
		}
		if v.SetBy != config.VIPByDraas {
			state += ", set by " + v.SetBy
		}
		fmt.Fprintln(w)
		writeText(w, "", fmt.Sprintf("vip %s: %s", v.VIP, state))
		rows := [][]string{{"ADDRESS", "INTERFACE", "SET HERE"}}
		for _, a := range v.Addresses {
			here := "no"
			if a.Present {
				here = "yes"
			}
			if a.Conflict != "" {
				here += ", AND AT " + a.Conflict
			}
			rows = append(rows, []string{a.Address, a.Interface, here})
		}
		if len(rows) > 1 {
			writeTable(w, "  ", rows)
		}
	}
}

func writeFrontendService(w io.Writer, v *api.FrontendService) {
	where := "leads nowhere (" + v.Reason + ")"
	switch v.State {
	case "open":
		where = fmt.Sprintf("leads to %s at epoch %s", v.Site, v.Epoch)
	case "wait":
		where = fmt.Sprintf("holds requests (%s), last at %s, epoch %s", v.Reason, orNone(string(v.Site)), v.Epoch)
	}
	permit := fmt.Sprintf(", for %.1f s unless it hears more", float64(v.PermitLeftMS)/1000)
	switch {
	case v.State != "open":
		permit = ""
	case v.Outlives:
		permit = ", also when no member is heard"
	}
	at := v.Mode
	if len(v.Listen) > 0 {
		at += " on " + strings.Join(v.Listen, " ")
	}
	writeText(w, "", fmt.Sprintf("%s (%s) %s%s", v.Service, at, where, permit))
	if v.Stands != "" && v.State == "open" && v.Site != v.Stands {
		forwarded := ""
		if i := slices.IndexFunc(v.Sites, func(x api.FrontendSite) bool { return x.Site == v.Site }); i >= 0 && v.Driven == nil {
			forwarded = fmt.Sprintf(": %d requests so far", v.Sites[i].Requests)
		}
		writeText(w, "  ", fmt.Sprintf("it stands at %s and forwards who still comes here to %s%s", v.Stands, v.Site, forwarded))
	}
	if v.Driven != nil { // its proxy counts by itself
		writeDriven(w, v.Driven)
		return
	}
	rows := [][]string{{"SITE", "REQUESTS", "ANSWERS", "ERRORS", "BYTES IN", "OUT"}}
	for _, x := range v.Sites {
		rows = append(rows, []string{string(x.Site), fmt.Sprint(x.Requests), countsOf(x.Answers), countsOf(x.Errors), fmt.Sprint(x.In), fmt.Sprint(x.Out)})
	}
	writeTable(w, "  ", rows)
	writeText(w, "  ", fmt.Sprintf("clients %d (%d so far, %d rejected); under way %d; waiting %d; held %d, replayed %d, shed %d; dropped %d; longest stall %.0f ms",
		v.Connections, v.Accepted, v.Rejected, v.Flights, v.Waiting, v.Held, v.Replayed, v.Shed, v.Dropped, v.LongestStallMS))
}

// writeDriven says what a proxy of others was last seen to do.
func writeDriven(w io.Writer, d *api.FrontendDriven) {
	state := "the proxy does so"
	switch {
	case !d.Known && d.Error != "":
		state = "THE PROXY WAS NOT SEEN TO DO SO: " + d.Error
	case !d.Known:
		state = "the proxy is being led there"
	}
	writeText(w, "  ", fmt.Sprintf("%s; put right %d times after others had changed it", state, d.Repairs))
}

// countsOf writes counters by name.
func countsOf(m map[string]int64) string {
	var parts []string
	for _, k := range sortedKeys(m) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return cmp.Or(strings.Join(parts, ", "), "-")
}
