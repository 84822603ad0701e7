package main

import (
	"github.com/draasd/draas/demo"
	"github.com/draasd/draas/failover"
)

// commands is the table of subcommands, in the order of the help.
func (p *program) commands() []command {
	return []command{
		{name: "demo", args: "[flags]", bind: bindDemo,
			short: "show a disaster and its failover on this machine, measured from outside",
			long: `Starts two sites and a witness as separate processes on loopback addresses and two
small web services behind them, measures with rtotest, strikes, and prints a timeline
and a table. It needs no root and leaves nothing behind. With --scheme frontend users reach a
frontend beside both sites, which holds their requests through the disaster; with --scheme
hybrid one at each site, by a name that leads to those of one.

Disasters: service     the service's process is killed; its site lives
           hang        the service's process accepts and never answers; its site lives
           site        every process of the primary site is killed
           silent      every packet from and to the primary site is dropped
           daemon      only draasd is killed: its service lives and must be fenced
           freeze      only draasd is stopped (SIGSTOP), and later continued
           cut         the link between the sites is severed for the time of --cut: nothing may move
           switchover  none: an operator moves the service, both sites are well
           entry       the frontend by which users enter is killed; --scheme hybrid`,
			example: "draasd demo --scheme frontend --disaster service --runs 5 --json result.json"},
		{name: "init", args: "DIR [flags]", min: 1, max: 1, bind: bindInit,
			short: "make a new cluster: DIR/{primary,dr,witness} with file, certificates and data",
			long: `The cluster runs as it is on loopback addresses. For real sites, change the addresses
in failover.toml (the same file for all) and copy each directory to its machine.
The CA's key stays in DIR/ca: keep it off the members.`,
			example: "draasd init cluster --base-port 7400"},
		{name: "check", args: "[--here] -c FILE", bind: bindCheck,
			short: "check failover.toml: all that is wrong at once, or a summary with the worst-case RTO",
			long: `Exits with 0 or 2. Without --here only the file is read. With --here it also opens the
certificates and the data directory and tries the ports that this member would use.`,
			example: "draasd check --here -c /etc/draas/failover.toml"},
		{name: "rto", args: "[SERVICE...] [--json] -c FILE", max: 100, bind: bindRTO,
			short: "the downtime that failover.toml implies for each disaster, term by term",
			long: `Worst case and the usual one, and which keys set each term. Terms follow each other and add
up. What a file cannot know is not in it: the distance between the sites, what an application
needs after its start, and clients that never look a name up again. A max_rto in the file that
cannot hold is refused by draasd check.`,
			example: "draasd rto shop -c /etc/draas/failover.toml"},
		{name: "dns", args: "audit [flags] -c FILE", min: 1, max: 1, bind: bindDNS,
			short: "ask servers, resolvers and the parent zone what they really hand out",
			long: `For every service's name: records, epoch and TTL at each authority of its zone, and at
resolvers with the time until they must ask again; and whether the parent zone leads to the
right servers. Each finding says what to do. A resolver that is behind is looked at once more
when its TTL is over, if that is within 10 s. Exits with 0, with 1 if a finding is an error,
and with 2 if it could not look.`,
			example: "draasd dns audit --resolver 192.0.2.1,9.9.9.9 -c /etc/draas/failover.toml"},
		{name: "run", args: "-c FILE", bind: bindRun,
			short: "run the daemon of this member",
			long: `Which member it is, the common name of the certificate says. It starts passive; nobody
is active until draasd activate. It speaks sd_notify and the watchdog of systemd.`,
			example: "draasd run -c /etc/draas/failover.toml"},
		{name: "guard", args: "[--close] -c FILE", bind: bindGuard,
			short: "run the guard of this site: it closes the fences when renewals stop",
			long: `The guard is a process of its own, so that a killed or stopped daemon cannot leave its
services serving. It starts closed. A witness needs none. It reads the file again at SIGHUP.
With --close it closes the kernel fences and ends: for draas-fence-boot.service, before the
network comes up.`,
			example: "draasd guard -c /etc/draas/failover.toml"},
		{name: "frontend", args: "[status | yield VIP | holds VIP | keepalived VIP] -c FILE", max: 2, bind: bindFrontend,
			short: "run the frontend of this host: a proxy that follows the decision; or ask how it is",
			long: `Which frontend it is, the common name of the certificate says. It starts leading nowhere,
follows every member that it can reach, and has no vote. It reads the file again at SIGHUP.
With status it says where it leads, for how long, and what it has counted since its start.
With yield it gives a virtual IP up for another frontend to take; holds succeeds when it has it;
keepalived prints what belongs into keepalived.conf where that sets the addresses.`,
			example: "draasd frontend -c /etc/draas/failover.toml"},
		{name: "activate", args: "SERVICE SITE", min: 2, max: 2, bind: bindMove(failover.MoveActivate),
			short:   "make a site active for the first time",
			example: "draasd activate shop primary"},
		{name: "status", args: "[--json] [--watch]", bind: bindStatus,
			short: "what is decided, beside what the sites report",
			long: `"!" marks where the two disagree, "?" what could not be asked. --watch draws it anew on
a terminal, and prints a line for each change elsewhere.`,
			example: "draasd status --watch"},
		{name: "switchover", args: "SERVICE [SITE]", min: 1, max: 2, bind: bindMove(failover.MoveSwitchover),
			short: "planned move: the active site hands over, or nothing happens",
			long: `Without SITE the first one that is fit is taken. If the active site does not hand over
in time, the move is undone.`,
			example: "draasd switchover shop dr --reason 'kernel update at primary'"},
		{name: "failover", args: "SERVICE [SITE]", min: 1, max: 2, bind: bindMove(failover.MoveFailover),
			short: "forced move: needs no verdict and no handover, but waits out the old permit",
			long: `What was written at the old site and has not reached the new one is lost. It asks for
confirmation, and without a terminal it wants --yes.

--allow-data-loss  goes to a site whose copy is further behind than max_data_loss, this once
--vouch            where neither the end of a lease nor a device proves that the old site does
                   not serve (two sites without a witness, on_lease_loss = "serve", fence
                   "none"), your word does: look there first, with your own eyes`,
			example: "draasd failover shop dr --yes --reason 'flood at primary'"},
		{name: "failback", args: "SERVICE", min: 1, max: 1, bind: bindMove(failover.MoveFailback),
			short:   "planned move to the home site",
			example: "draasd failback shop"},
		{name: "enter", args: "SERVICE SITE", min: 2, max: 2, bind: bindEnter,
			short: "let users enter at another site's frontends; the service itself stays where it is",
			long: `Of services with frontends at several sites. Users enter at the active site, or where
frontends are heard when none there is, and never go back by themselves: this, or the next
move, takes them back.`,
			example: "draasd enter shop dr --reason 'works on the balancers at primary'"},
		{name: "pause", args: "SERVICE|--all --for LONG --reason TEXT", max: 1, bind: bindAsk(failover.AskPause),
			short: "no automatic move for a while; it ends by itself",
			long: `What a person asks for is still done. status shows who paused it, why and until when; a
service that fails while it is paused pages somebody.`,
			example: "draasd pause shop --for 2h --reason 'storage work at primary'"},
		{name: "resume", args: "SERVICE|--all", max: 1, bind: bindAsk(failover.AskResume),
			short: "end a pause now", example: "draasd resume shop"},
		{name: "ack", args: "SERVICE|--all", max: 1, bind: bindAsk(failover.AskAcknowledge),
			short: "you know of the last moves: what holds off further automatic ones ends",
			long: `After each automatic move further ones are held off, the longer the more of them nobody
has acknowledged; and a site whose service keeps failing is no target. ack ends both. A name
that others keep changing is put right again.`,
			example: "draasd ack shop --reason 'switch replaced at primary'"},
		{name: "reload", args: "[-c FILE]", bind: bindReload,
			short: "have the daemon read its failover.toml again, as SIGHUP does",
			long: `A file with something wrong is refused with all that is wrong, and the one in use stays.
A good one is in force, for all members at once, when every member that can be heard has
read the same. Put it everywhere, then run this at each member. When it is in force,
have the guards of the sites read it too: systemctl reload draas-guard.`,
			example: "draasd reload --timeout 1m"},
		{name: "members", args: "[--json]", bind: bindMembers,
			short:   "who takes part in the log: votes, last heard, version, certificate, quarantine",
			example: "draasd members"},
		{name: "join", args: "-c FILE [--discard]", bind: bindJoin,
			short: "prepare a data directory for a member of a cluster that runs",
			long: `For a member that is new, or that has lost its disk. Its certificate comes from draasd issue,
and failover.toml must name it at the members that are there: put the file everywhere, and
reload. --discard gives up a copy of the log that must not be used any more: of a member that
was removed, put into quarantine, or left behind by a takeover.`,
			example: "draasd join -c /etc/draas/failover.toml"},
		{name: "issue", args: "NAME [flags]", min: 1, max: 1, bind: bindIssue,
			short: "a further certificate: for a new member, a frontend, or in place of one that ends",
			long: `Run it where the CA's key is kept, which is no member. A certificate is never good for longer
than its CA. With --frontend it is one for a [frontend.NAME]: whoever has it may follow the
decision, and nothing else.`,
			example: "draasd issue dr --ca acme/ca --out acme/dr/tls --replace"},
		{name: "leave", bind: bindLeave,
			short: "let this member go in order, as before a long maintenance",
			long: `What it serves has to be handed over before: draasd switchover. The others are a majority
without it from then on; of two sites, the other goes on alone. Its daemon ends with exit
code 3. When it is started again, it asks to be let in.`,
			example: "draasd leave"},
		{name: "takeover", args: "--old-site-is-off", bind: bindTakeover,
			short: "start the cluster anew from this member, when the majority is lost for good",
			long: `For two sites without a witness when one is lost, or when a disaster took the majority. It
shows what is known of the lost members and asks twice. It takes your word that they do not
serve and will not: if one does, two sites serve. What they served is moved here.`,
			example: "draasd takeover --old-site-is-off --reason 'flood at primary'"},
		{name: "why", args: "SERVICE [--json]", min: 1, max: 1, bind: bindWhy,
			short:   "why a service is where it is, and whether it would move by itself now",
			example: "draasd why shop"},
		{name: "history", args: "[SERVICE] [--json]", max: 1, bind: bindHistory,
			short: "what was decided, refused and done, a line per record",
			long:  "With --json a JSON object per line.", example: "draasd history shop --limit 20"},
		{name: "sync", args: "plan|diff|run|status|verify|adopt|map|users [flags] -c FILE", min: 1, max: 4, bind: bindSync,
			short: "the copy of the active site's cloud at the standby site: plan, make, and how far it is",
			long: `The daemon of the site that stands by does it by itself, as [sync] says; this is for looking at it,
and to make it at once. Which site is active, the daemon says.

plan    what a run would do, object by object, and why nothing is done about others
diff    the same with everything read: exits with 3 where anything differs
run     does it, and shows how far it is; with --choose KIND/NAME=drop an object that others have
        changed is made as at the source again, with keep it is left
status  how far behind the copy is, kind by kind; no cloud is asked
verify  compares both clouds completely, whatever was written; with --bodies contents too
adopt   KIND SOURCE TARGET: an object that the target has stands for one of the source's
map     [KIND]: what stands for what, and who made it
users   [enable|disable]: who was copied; lets them log in where their site has become active,
        or keeps them from it where it stands by again

Exits with 0, with 1 if objects failed, are blocked or could not be seen, and with 3 if others have
changed the target, or a name belongs to another. After a failover the direction turns: the first
run is held until --accept says what is to become of what differs.`,
			example: "draasd sync plan -c /etc/draas/failover.toml"},
		{name: "version", bind: bindVersion,
			short: "print the version", example: "draasd version"},
		{name: demo.ServeCommand, hidden: true, raw: p.server.serve,
			args: "[flags]", short: "the small web service of draasd demo", example: "draasd demo"},
	}
}
