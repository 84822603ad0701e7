package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/draasd/draas"
)

// Sync is the replication of one site's cloud to the others'. It is off while
// no member has a cloud.
type Sync struct {
	// Clouds are the names in CloudsFile, by site. A file with two clouds or more
	// has a [sync].
	Clouds     map[draas.SiteID]string
	CloudsFile string // clouds.yaml
	State      string // what was written last, on the member's disk
	// Follows is the service or group whose active site is the source; empty
	// when there is no [sync].
	Follows draas.ServiceID

	// Every is the pause between two runs; Schedule, if it is not empty, says
	// instead when they begin, and Audit when everything is read. Both are cron
	// expressions of five fields, in UTC unless they begin with CRON_TZ=.
	Every    time.Duration
	Schedule string
	Audit    string

	Kinds, Without []string            // of objects: only these, none of these
	Projects       []string            // names or ids at the source
	Tags           []string            // of which an object has to bear one
	Names, Except  []string            // patterns of names: some of these, none of these
	Given          map[string][]string // by kind: names that both sites have by themselves
	Policy         map[string][]string // by kind, or "default"
	Missing        int                 // complete listings in a row, until what is gone is deleted
	Grace          time.Duration       // and for how long
	BrakeObjects   int                 // more than this, and
	BrakeShare     float64             // than this part of a kind, is not deleted in one run
	Workers        int
	Streams        int
	// From SegmentAbove on objects are carried in segments of SegmentSize beside
	// each other, in bytes; 0: as the engine has it.
	SegmentAbove, SegmentSize int64
	// EnableUsers says who enables copied users when their site has become the
	// active one: [UsersByCommand] or [UsersByMove].
	EnableUsers string
	// AnswerTimeout is how long a service may take to answer, UploadTimeout how
	// long it may think about content that it has; 0: as the sessions have it.
	AnswerTimeout, UploadTimeout time.Duration

	Plain bool // http without TLS is good enough
	Map   []SyncMapping
	Rates []SyncRate
}

// SyncMapping is an object that stands for another at each site.
type SyncMapping struct {
	Kind, Name string
	At         map[draas.SiteID]string // names or ids
}

// SyncRate bounds what is asked of each cloud in a part of the day.
type SyncRate struct {
	Name     string
	Service  string // only of this; empty: of all together
	From, To string // "22:00"; both empty: all day
	Requests int    // a second; 0: no bound
	Bytes    int64  // a second; 0: no bound
}

// What a policy of a kind may say. Report is the default: what others have
// changed is named and left.
const (
	PolicyReport    = "report"
	PolicyOverwrite = "overwrite"
	PolicyAdopt     = "adopt"
	PolicyRename    = "rename"
	PolicyKeep      = "keep"
)

// Who enables copied users when their site has become the active one: a person,
// or its member.
const (
	UsersByCommand = "command"
	UsersByMove    = "move"
)

// SyncDefault is the policy of the kinds that have none of their own.
const SyncDefault = "default"

// SyncKinds are the kinds of objects that can be carried.
func SyncKinds() []string {
	return []string{
		"domain", "role", "project", "group", "user", "membership", "assignment",
		"flavor", "keypair", "server-group", "image", "image-member",
		"address-scope", "subnet-pool", "qos-policy", "network", "subnet", "security-group", "router", "rbac-policy", "floating-ip",
		"backend", "volume-qos", "volume-type", "compute-quota", "network-quota", "volume-quota",
		"container", "object", "zone", "recordset",
	}
}

// syncServices are those of a cloud that can have a rate of their own.
func syncServices() []string {
	return []string{"identity", "compute", "image", "network", "block-storage", "object-store", "dns"}
}

// What the engine and the sessions take where nothing is written.
const (
	defaultSegmentAbove = 1 << 30
	defaultSegmentSize  = 256 << 20
)

func syncKeys() []key {
	return []key{
		{path: "member.*.cloud", kind: kindID, def: "-"},
		{path: "sync.clouds_file", kind: kindKeyFile, def: "required"},
		{path: "sync.state", kind: kindFile, def: "sync.db in data"},
		{path: "sync.follows", kind: kindName, def: "the only one there is"},
		dur("sync.every", "30s", time.Second, 24*time.Hour),
		{path: "sync.schedule", kind: kindCron, def: "-"},
		{path: "sync.audit", kind: kindCron, def: "17 3 * * *"},
		{path: "sync.kinds", kind: kindKinds, def: "all"},
		{path: "sync.without", kind: kindKinds, def: "-"},
		{path: "sync.projects", kind: kindTexts, def: "all"},
		{path: "sync.tags", kind: kindTexts, def: "all"},
		{path: "sync.names", kind: kindTexts, def: "all"},
		{path: "sync.except", kind: kindTexts, def: "-"},
		{path: "sync.given.*", kind: kindTexts, def: "-"},
		{path: "sync.policy.*", kind: kindChoices, def: `["report"]`, oneOf: []string{PolicyReport, PolicyOverwrite, PolicyAdopt, PolicyRename, PolicyKeep}},
		{path: "sync.enable_users", kind: kindChoice, def: UsersByCommand, oneOf: []string{UsersByCommand, UsersByMove}},
		{path: "sync.missing", kind: kindCount, def: "2", low: 1, high: 1000},
		dur("sync.grace", "10m", 0, 30*24*time.Hour),
		{path: "sync.brake_objects", kind: kindCount, def: "10", low: 1, high: 1_000_000},
		{path: "sync.brake_share", kind: kindPart, def: "0.1"},
		{path: "sync.workers", kind: kindCount, def: "16", low: 1, high: 256},
		{path: "sync.streams", kind: kindCount, def: "4", low: 1, high: 64},
		{path: "sync.segment_above", kind: kindSize, def: "1GiB", low: 1 << 20, high: 5 << 30},
		{path: "sync.segment_size", kind: kindSize, def: "256MiB", low: 1 << 20, high: 5 << 30},
		dur("sync.answer_timeout", "1m", time.Second, time.Hour),
		dur("sync.upload_timeout", "5m", time.Second, 24*time.Hour),
		{path: "sync.plain", kind: kindBool, def: "false"},
		{path: "sync.map.*.*.*", kind: kindText, def: "-"},
		{path: "sync.rate.*.from", kind: kindTime, def: "all day"},
		{path: "sync.rate.*.to", kind: kindTime, def: "all day"},
		{path: "sync.rate.*.service", kind: kindChoice, def: "all together", oneOf: syncServices()},
		{path: "sync.rate.*.requests", kind: kindCount, def: "no limit", low: 1, high: 100000},
		{path: "sync.rate.*.bytes", kind: kindSize, def: "no limit", low: 1 << 10, high: 1 << 40},
	}
}

// cron accepts when something is to be done, as crontab(5) says it.
func (c *conversion) cron(s string) (any, bool) {
	if _, err := cron.ParseStandard(s); err != nil || strings.HasPrefix(s, "@every") {
		return c.fail(show(s)+" is not a cron expression", c.want())
	}
	return s, true
}

// clock accepts a time of the day.
func (c *conversion) clock(s string) (any, bool) {
	if _, err := time.Parse("15:04", s); err != nil || len(s) != len("15:04") {
		return c.fail(show(s)+" is not a time of the day", c.want())
	}
	return s, true
}

// syncKind accepts a kind of objects.
func (c *conversion) syncKind(v any) (string, string) {
	s, why := c.argument(v)
	if why == "" && !slices.Contains(SyncKinds(), s) {
		why = show(s) + " is not a kind of objects"
		if guess := nearest(s, SyncKinds()); guess != "" {
			why += fmt.Sprintf(" (did you mean %q?)", guess)
		}
	}
	return s, why
}

// choiceOf accepts one of the key's words.
func (c *conversion) choiceOf(v any) (string, string) {
	s, why := c.argument(v)
	if why == "" && !slices.Contains(c.key.oneOf, s) {
		why = show(s) + " is none of them"
	}
	return s, why
}

// sync reads the replication.
func (d *decoder) sync(c *Config, root map[string]any) Sync {
	s := Sync{Clouds: make(map[draas.SiteID]string)}
	for _, name := range below(root, "member") {
		if cloud := get(d, join("member", name)+".cloud", ""); cloud != "" {
			s.Clouds[draas.SiteID(name)] = cloud
		}
	}
	if !d.has("sync") {
		return s
	}
	s.CloudsFile = get(d, "sync.clouds_file", "")
	s.State = get(d, "sync.state", c.Data+"/sync.db")
	s.Follows = draas.ServiceID(get(d, "sync.follows", ""))
	s.Every = get(d, "sync.every", 30*time.Second)
	s.Schedule = get(d, "sync.schedule", "")
	s.Audit = get(d, "sync.audit", "17 3 * * *")
	for to, name := range map[*[]string]string{&s.Kinds: "kinds", &s.Without: "without", &s.Projects: "projects", &s.Tags: "tags", &s.Names: "names", &s.Except: "except"} {
		*to = get[[]string](d, "sync."+name, nil)
	}
	s.Given = byName[string, []string](d, "sync.given", below(root, "sync", "given"))
	s.Policy = byName[string, []string](d, "sync.policy", below(root, "sync", "policy"))
	s.EnableUsers = get(d, "sync.enable_users", UsersByCommand)
	s.Missing, s.Grace = get(d, "sync.missing", 2), get(d, "sync.grace", 10*time.Minute)
	s.BrakeObjects, s.BrakeShare = get(d, "sync.brake_objects", 10), get(d, "sync.brake_share", 0.1)
	s.Workers, s.Streams = get(d, "sync.workers", 16), get(d, "sync.streams", 4)
	s.SegmentAbove, s.SegmentSize = get(d, "sync.segment_above", int64(0)), get(d, "sync.segment_size", int64(0))
	s.AnswerTimeout, s.UploadTimeout = get(d, "sync.answer_timeout", time.Duration(0)), get(d, "sync.upload_timeout", time.Duration(0))
	s.Plain = get(d, "sync.plain", false)
	for _, kind := range below(root, "sync", "map") {
		for _, name := range below(root, "sync", "map", kind) {
			at := join("sync.map", kind) + "." + name
			s.Map = append(s.Map, SyncMapping{Kind: kind, Name: name,
				At: byName[draas.SiteID, string](d, at, below(root, "sync", "map", kind, name))})
		}
	}
	for _, name := range below(root, "sync", "rate") {
		at := join("sync.rate", name)
		s.Rates = append(s.Rates, SyncRate{Name: name, Service: get(d, at+".service", ""), From: get(d, at+".from", ""), To: get(d, at+".to", ""),
			Requests: get(d, at+".requests", 0), Bytes: get(d, at+".bytes", int64(0))})
	}
	d.need("sync.clouds_file", `name the clouds.yaml with the credentials, such as clouds_file = "clouds.yaml"`)
	return s
}

// checkSync checks what cannot stand.
func (d *decoder) checkSync(c *Config) {
	s := &c.Sync
	for _, m := range c.Members {
		if _, has := s.Clouds[m.ID.Site()]; has && m.Role == draas.RoleWitness {
			d.report(join("member", string(m.ID))+".cloud", "a witness has no cloud that is replicated", "remove it")
		}
	}
	if !d.has("sync") {
		return
	}
	if len(s.Clouds) < 2 {
		d.report("sync", fmt.Sprintf("%d of the sites have a cloud", len(s.Clouds)), `give at least two sites the names of theirs in clouds_file: cloud = "acme-east" in [member.NAME]`)
	}
	d.checkFollows(c)
	if d.has("sync.schedule") && d.has("sync.every") {
		d.report("sync.schedule", "every says already when runs begin", "remove one of them")
	}
	if above, size := cmp.Or(s.SegmentAbove, defaultSegmentAbove), cmp.Or(s.SegmentSize, defaultSegmentSize); size > above && d.clean("sync.segment_above", "sync.segment_size") {
		at := "sync.segment_size"
		if !d.has(at) {
			at = "sync.segment_above"
		}
		d.report(at, fmt.Sprintf("a segment of %s is more than the %s from which on there are any", bytesText(size), bytesText(above)), "write a segment_size that is less, or a segment_above that is more")
	}
	for kind, words := range s.Policy {
		path := join("sync.policy", kind)
		if kind != SyncDefault && !slices.Contains(SyncKinds(), kind) {
			d.report(path, show(kind)+" is not a kind of objects", "write one of those that docs/config.md lists, or default")
		}
		if slices.Contains(words, PolicyReport) && len(words) > 1 {
			d.report(path, "report stands beside others", "report is what happens where nothing else is said: remove it, or the others")
		}
		if slices.Contains(words, PolicyAdopt) && slices.Contains(words, PolicyRename) {
			d.report(path, "adopt and rename stand beside each other", "write what is to happen with a name that is taken: one of them")
		}
	}
	for kind := range s.Given {
		if !slices.Contains(SyncKinds(), kind) {
			d.report(join("sync.given", kind), show(kind)+" is not a kind of objects", "write one of those that docs/config.md lists")
		}
	}
	d.checkSyncMap(s)
	for _, r := range s.Rates {
		if (r.From == "") != (r.To == "") {
			d.report(join("sync.rate", r.Name), "from stands without to, or to without from", "write both, or none for all day")
		}
	}
}

// checkFollows checks that it is said whose active site is the source.
func (d *decoder) checkFollows(c *Config) {
	s, at := &c.Sync, "sync.follows"
	units := c.Units()
	if len(units) == 0 || !d.clean(at) {
		return
	}
	var names []string
	for i := range units {
		names = append(names, string(units[i].ID))
	}
	if s.Follows == "" {
		d.report(at, "missing", fmt.Sprintf("there are several services and groups: write the one whose active site is the source, such as follows = %q", names[0]))
		return
	}
	i := slices.IndexFunc(units, func(u Unit) bool { return u.ID == s.Follows })
	if i < 0 {
		right := "write one of " + strings.Join(names, ", ")
		if svc, has := c.Service(s.Follows); has {
			right = fmt.Sprintf("it moves with its group: write %q", svc.Group)
		} else if guess := d.nearest(string(s.Follows), names); guess != "" {
			right = fmt.Sprintf("did you mean %q?", guess)
		}
		d.report(at, fmt.Sprintf("there is nothing that moves by itself called %q", s.Follows), right)
		return
	}
	if len(s.Clouds) < 2 {
		return // reported
	}
	with := slices.DeleteFunc(slices.Clone(units[i].Sites), func(site draas.SiteID) bool { return s.Clouds[site] == "" })
	if len(with) < 2 {
		d.report(at, fmt.Sprintf("%s can run at %d of the sites that have a cloud", s.Follows, len(with)), "follow what can run at two of them at the least")
	}
}

func (d *decoder) checkSyncMap(s *Sync) {
	for i, m := range s.Map { // by kind
		at := join("sync.map", m.Kind) + "." + m.Name
		if !slices.Contains(SyncKinds(), m.Kind) {
			if i == 0 || s.Map[i-1].Kind != m.Kind {
				d.report(join("sync.map", m.Kind), show(m.Kind)+" is not a kind of objects", "write one of those that docs/config.md lists")
			}
			continue
		}
		for site := range m.At {
			if _, has := s.Clouds[site]; !has {
				d.report(at+"."+string(site), "no site with a cloud is called so", "write the names of members that have a cloud")
			}
		}
		if len(m.At) < 2 {
			d.report(at, "says what it is at one site only", "write its name or id at each site")
		}
	}
}

// StateOf is the file of what was written last from a site. Of two sites there is
// one direction at each, and the name is as it was given.
func (s *Sync) StateOf(from draas.SiteID) string {
	if len(s.Clouds) <= 2 {
		return s.State
	}
	return s.State + "." + string(from)
}

// PolicyOf says what a kind's policy has, its own or the default.
func (s *Sync) PolicyOf(kind, word string) bool {
	words, own := s.Policy[kind]
	if !own {
		words = s.Policy[SyncDefault]
	}
	return slices.Contains(words, word)
}
