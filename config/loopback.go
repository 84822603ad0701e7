package config

import (
	"bytes"
	_ "embed"
	"fmt"
	"strconv"
	"text/template"

	"github.com/draasd/draas"
)

//go:embed loopback.toml.tmpl
var loopbackTemplate string

// LoopbackBasePort is the first port of a loopback cluster by default.
const LoopbackBasePort = 7400

// loopbackPorts is how many ports from the base on a loopback cluster has.
const loopbackPorts = 33

// LoopbackOptions shape a loopback cluster. The zero value is a good one.
type LoopbackOptions struct {
	Cluster  string // default "loopback"
	BasePort int    // default LoopbackBasePort; the template lists what follows it
	Profile  string // default "fast"

	// The links of a demo go through relays. PeerFrom says where member
	// "from" reaches member "to": PeerFrom[to][from]. ListenPeer replaces
	// where a member listens for its peers. ProbeVia says where a vantage
	// reaches the service at a site: ProbeVia[vantage][site].
	PeerFrom   map[draas.MemberID]map[draas.MemberID]string
	ListenPeer map[draas.MemberID]string
	ProbeVia   map[draas.MemberID]map[draas.SiteID]string
}

// link is one line of the template about a way between two.
type link struct{ From, To, Address string }

// Loopback writes the failover.toml of a cluster of primary, dr and witness
// on loopback addresses with one service "web", for all three alike. What it
// returns has passed Parse.
func Loopback(o LoopbackOptions) ([]byte, error) {
	if o.Cluster == "" {
		o.Cluster = "loopback"
	}
	if o.Profile == "" {
		o.Profile = "fast"
	}
	if o.BasePort == 0 {
		o.BasePort = LoopbackBasePort
	}
	if o.BasePort < 1 || o.BasePort > 65536-loopbackPorts {
		return nil, fmt.Errorf("base port %d: %d ports from it on are used, so give one from 1 to %d", o.BasePort, loopbackPorts, 65536-loopbackPorts)
	}
	t, err := template.New("failover.toml").Funcs(template.FuncMap{
		"quote": strconv.Quote,
		"port":  func(n int) int { return o.BasePort + n },
		"links": o.links,
	}).Parse(loopbackTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse loopback template: %w", err)
	}
	var probes []link
	for _, from := range sortedKeys(o.ProbeVia) {
		for _, to := range sortedKeys(o.ProbeVia[from]) {
			probes = append(probes, link{string(from), string(to), o.ProbeVia[from][to]})
		}
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"Cluster": o.Cluster, "Profile": o.Profile, "Base": o.BasePort,
		// Linux answers on all of 127.0.0.0/8. One address for each site, since
		// DNS cannot move users between ports.
		"PrimaryAddr": "127.0.0.2", "DRAddr": "127.0.0.3",
		"ProbeVia": probes,
	})
	if err != nil {
		return nil, fmt.Errorf("write loopback configuration: %w", err)
	}
	if _, err := Parse("failover.toml", b.Bytes()); err != nil {
		return nil, fmt.Errorf("check loopback configuration: %w", err)
	}
	return b.Bytes(), nil
}

// links are the lines about a member's peer connections.
func (o LoopbackOptions) links(member string) any {
	to := draas.MemberID(member)
	var from []link
	for _, f := range sortedKeys(o.PeerFrom[to]) {
		from = append(from, link{string(f), member, o.PeerFrom[to][f]})
	}
	return struct {
		Listen   string
		PeerFrom []link
	}{o.ListenPeer[to], from}
}
