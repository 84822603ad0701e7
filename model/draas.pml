/*
 * Decision, permit and fence of one service: two sites and a witness.
 *
 * The question: can two sites ever serve at once, whatever is lost, late,
 * restarted, copied or drifting? And does one serve again when all that is
 * over? docs/model.md says what stands for what in the code, the bounds, and
 * what is left out. The environment says what may happen (knobs()) and which
 * one mistake the protocol makes (BUG, a number from below); model.go runs the
 * combinations. Trails are read with pan -r: there is C in here.
 *
 * One process takes one step after the other. A step is chosen (choose, or
 * calmly), done (act) and judged (judge); nothing in it can block, so that no
 * trail ends in an artefact. Being down, cut off or slow is nothing but not
 * being chosen: every step may be left out for ever, and calm() asks what
 * happens when from now on none is.
 *
 * Time: a tick is an instant for everybody; in it a machine's clock goes on by
 * `slow` or `fast` units, chosen anew at each. So rho is (fast-slow)/
 * (fast+slow), and a lease of L ticks is L(1-rho) = L*slow units for who holds
 * it, its margin used up, and L(1+rho) = L*fast for who waits. Timers are
 * countdowns in units of their own machine's clock.
 */

#define WINDOW 3        /* room for entries that not every site has applied */
#define EPOCHS 4        /* room for activations */
#define PATIENCE 16     /* ticks until calm must have brought one site up */
#define NONE 2          /* no site */
#define ALL 3           /* of the members */

/* What may happen, and the mistakes. Set once. */
hidden byte bug, epochs, window, lease, shorter, slow, fast;
hidden byte prunes, calms, disks;

/* Mistakes of the decision and of permits. */
#define NO_DRIFT          1     /* both sides count the bare lease */
#define NO_WAIT           2     /* the successor does not wait */
#define FROM_RECEIPT      3     /* a permit counts from its renewal's apply */
#define RENEW_REVOKED     4     /* a renewal after the decision is honoured */
#define UNEQUAL_STEP      5     /* one site's Step honours it, the other's does not */
#define LATE_ACTIVATE     6     /* an activation of an earlier move is honoured */
#define ACTIVATE_UNSEEN   7     /* only renewals are waited out, not the first grant */
#define RESTORE_UNSEEN    8     /* after a snapshot the wait goes on as before */
#define BORN_READY        9     /* after a restart nothing is waited out */
#define ROLE_FROM_FILE   10     /* home site takes itself for active */
#define RELEASE_FIRST    11     /* released before the fence is seen closed */
#define LOST_MOVE        12     /* a restart forgets the move under way */
#define NO_RETRY         13     /* a proposal that was lost is not made again */
/* Of the fence. */
#define STALE_EPOCH      20     /* the guard takes any epoch */
#define NO_JOURNAL       21     /* a restarted guard has forgotten its epochs */
#define LATE_WRITE       22     /* a deadline written late counts from then */
#define FENCE_NEEDS_DAEMON 23   /* with no daemon it does not close */
#define UNCONFIRMED      24     /* a device is believed before the site is off */
/* Of clocks. */
#define BOOT_CLOCK_ONLY  30
#define WALL_CLOCK_ONLY  31
/* Of machines and disks. */
#define BOOT_RENEWS      40     /* a copied machine renews at once, */
#define BOOT_RELEASES    41     /* or releases, */
#define BOOT_TAKES       42     /* or takes a new epoch at once, */
#define BOOT_ONCE        43     /* or waits in its first run only */
#define OLD_RUN          44     /* entries of the run before are honoured */
#define EMPTY_LOG        45     /* an emptied disk under the old name */
#define ROLLED_BACK      46     /* an older copy of the disk */
#define NO_FSYNC         47     /* acknowledged, not written */
/* Of a policy that shortens the lease. */
#define NO_LINGER        50     /* old permits are not waited out */
#define RENEWAL_SHORTENS 51     /* only until the next renewal */
#define BOOT_NO_LINGER   52     /* not by a machine that is another than before */
#define TURN_ENDS_LINGER 53     /* only until the old site takes back */
/* No mistakes of the code: what is assumed of the world, and broken. */
#define BOTH_CLOCKS_STOP 60
#define DRIFT_BEYOND     61

#define IS(b) (bug == (b))

/* draas.Lease: by the policy in force at v. */
#define TICKS(v) (brief[v] -> shorter : lease)
#define RATE(r) (IS(NO_DRIFT) -> (slow + fast) / 2 : (r))
#define HOLD(v) (TICKS(v) * RATE(slow))
#define WAIT(v) (TICKS(v) * RATE(fast))
#define LONGEST (lease * RATE(fast))

/*
 * failover.ServiceState: as sites 0 and 1 have applied it, as it stands after
 * the last entry of the log, and before the first one of the window.
 */
#define HEAD 2
#define BASE 3
byte holder[4] = NONE;  /* Active */
byte epoch[4];          /* Epoch */
bit revoked[4];         /* Revoked */
bit released[4];        /* Released, or Fenced */
bit moving[4];          /* PhaseFencing: a move waits for its activation */
bit target[4];          /* Move.To */
bit brief[4];           /* the policy with the shorter lease is in force */
bit linger[4];          /* Linger: permits of the longer one may be left */

/* Entries of the log. What the rules refuse changes nothing and is not kept. */
#define RENEW    1
#define ACTIVATE 2
#define DECIDE   3      /* startMove: it revokes; by is the target */
#define TURN     4      /* turnBack, redirectMove: by is the new target */
#define RELEASE  5      /* or fenced */
#define POLICY   6
#define STRAY    7      /* a renewal that only site 0's Step honours */
#define ENTRY(kind, by, mine) ((kind) * 4 + (by) * 2 + (mine))
#define KIND(e) ((e) / 4)
#define BY(e)   (((e) / 2) & 1)
#define MINE(e) ((e) & 1)       /* who sent it lives and knows when it did */
byte entry[WINDOW];
byte length;
byte pos[2];            /* entries of the window that the site has applied */
bit behind[2];          /* the window has gone on without it: needs a snapshot */

/* failover.Agent of a site. */
bit greeted[2];         /* its own hello is applied: before, it does nothing */
bit closed[2];          /* the fence was seen closed for the present epoch */
bit forgot[2];          /* the move under way (LOST_MOVE) */
byte over[2];           /* until the permit of the other site is over */

/* What it has sent: one renewal or activation, which counts from before it
 * was sent, and one release. */
#define FREE   0
#define FLYING 1        /* on its way to the log, or lost */
#define LATE   2        /* the same, but it grants nothing to anybody */
#define LOGGED 3        /* in the log, not applied by its sender */
byte sent[2];
bit taking[2];          /* an activation, else a renewal */
byte sentEpoch[2];
byte sentLeft[2];       /* of the permit that it may become, by the longer lease */
byte releasing[2];      /* epoch of a release on its way; 0: none */
byte off[2];            /* epoch whose holder a device has off, as the target knows; 0: none */

/* A deadline on its way to the guard, maybe for longer than its daemon lives. */
byte extEpoch[2];
byte extLeft[2];

/* fence.Ledger and the fence itself, which is open while left > 0. */
byte highest[2];
byte ended[2];
byte left[2];

/* A machine of the same name was there before and may still run. */
bit newBoot[2];
byte serveAfter[2];
byte ghost[2];          /* left of its fence */

/* Disks (only if the witness may forget): how many of the window's last entries
 * sites 0, 1 and the witness (2) have not stored. */
byte lacks[3];
bit amnesiac;           /* the witness is quarantined until it has caught up */
bit lost[2];            /* a site that knows entries that are no more: it stops */

bit stopped[2];         /* the boot clock stands still; the other runs */

/* Budgets of faults. */
byte stops, jumps, clones, devices, policies, forgets;

byte granted[EPOCHS + 1];       /* who got an epoch: site + 1 */
bit calm;
byte ticks;

/* Of the step under way; 0 between steps. */
byte s, new, pair;
mtype act;
hidden byte j, k, d;

/* Only by these mistakes does the log ever go back. */
#define GOES_BACK (IS(EMPTY_LOG) || IS(ROLLED_BACK) || IS(NO_FSYNC))

#define OPEN(x) (left[x] > 0 || ghost[x] > 0)
#define HOLDS(x) (holder[x] == (x) && !revoked[x])      /* ServiceState.Holder, as applied there */

/* The sites are alike. Runs in which site 1 is the first to be activated are
 * those in which site 0 is, in a mirror: they end there. */
#define MIRRORED (epoch[HEAD] == 0 && moving[HEAD] && target[HEAD] == 1)

inline knobs() {
	c_code {
		struct { char *name; unsigned char *to, or; } knob[] = {
			{"BUG", &bug, 0}, {"EPOCHS", &epochs, 2}, {"LAG", &window, 2}, {"LEASE", &lease, 2},
			{"SHORTER", &shorter, 1}, {"SLOW", &slow, 1}, {"FAST", &fast, 2},
			{"PRUNE", &prunes, 1}, {"CALM", &calms, 0}, {"STOPS", &now.stops, 0}, {"JUMPS", &now.jumps, 0},
			{"CLONES", &now.clones, 0}, {"DEVICES", &now.devices, 0}, {"POLICIES", &now.policies, 0},
			{"FORGETS", &now.forgets, 0},
		};
		int nth;
		for (nth = 0; nth < sizeof knob / sizeof *knob; nth++) {
			char *v = getenv(knob[nth].name);
			*knob[nth].to = v ? atoi(v) : knob[nth].or;
		}
		disks = now.forgets > 0;
		if (window > 3 || epochs > 4) { fprintf(stderr, "no room: LAG <= 3, EPOCHS <= 4\n"); exit(2); }
	}
}
#include "steps.pml"

/* ---------- all that can happen ---------- */

#define NOTHING 0
mtype = {
	FOLLOWS,        /* a site applies the next entry, */
	RESTORES,       /* or a snapshot */
	GREETS, RENEWS, SHUTS, RELEASES, TAKES,
	COMMITS,        /* a proposal arrives, */
	LOSES,          /* or not */
	FREES,          /* a release arrives */
	EXTENDS,        /* a deadline arrives at the guard */
	RESTARTS, GUARD_RESTARTS,
	STOPS, GOES_ON, /* the boot clock */
	JUMPS,          /* the wall clock */
	COPIED,         /* its machine is started a second time */
	SWITCHED_OFF,   /* the other site, by a device */
	CONFIRMS,
	HAUNTS,         /* OLD_RUN */
	DECIDES,        /* somebody saw a disaster, or an operator asks */
	TURNS,
	RELOADS,        /* another policy */
	FORGETS, CATCHES_UP,    /* the witness */
	ELECTS,         /* a leader that lacks entries */
	TICK
};

#define READY(x, b) (serveAfter[x] == 0 || IS(b))
#define FLIES(x) (sent[x] == FLYING || sent[x] == LATE)
#define CAN_SEND(x) (sent[x] == FREE && !(IS(NO_RETRY) && forgot[x]))

#define CAN_FOLLOW(x)  (!lost[x] && !behind[x] && pos[x] < length)
#define CAN_RESTORE(x) (!lost[x] && behind[x])
#define CAN_GREET(x)   (!lost[x] && !greeted[x] && !behind[x] && pos[x] == length)
#define CAN_RENEW(x)   (greeted[x] && HOLDS(x) && CAN_SEND(x) && READY(x, BOOT_RENEWS))
#define CAN_SHUT(x)    (greeted[x] && epoch[x] > 0 && !HOLDS(x) && !closed[x] && epoch[x] >= highest[x])
#define CAN_RELEASE(x) (greeted[x] && holder[x] == x && revoked[x] && !released[x] && releasing[x] == 0 && \
	(closed[x] || IS(RELEASE_FIRST)) && READY(x, BOOT_RELEASES))
#define CAN_TAKE(x)    (greeted[x] && moving[x] && target[x] == x && CAN_SEND(x) && !(IS(LOST_MOVE) && forgot[x]) && \
	(released[x] || (holder[x] == x && READY(x, BOOT_TAKES)) || (holder[x] == 1 - x && (over[x] == 0 || IS(NO_WAIT)))))
#define CAN_SWITCH_OFF(x) (devices > 0 && greeted[x] && moving[x] && target[x] == x && holder[x] == 1 - x && \
	!released[x] && off[x] == 0 && clones + ghost[1-(x)] == 0)

#define MAY(x, can, what) :: (can) -> s = x; act = what
#define SITE(x) \
	MAY(x, CAN_FOLLOW(x), FOLLOWS) \
	MAY(x, CAN_RESTORE(x), RESTORES) \
	MAY(x, CAN_GREET(x), GREETS) \
	MAY(x, CAN_RENEW(x), RENEWS) \
	MAY(x, CAN_SHUT(x), SHUTS) \
	MAY(x, CAN_RELEASE(x), RELEASES) \
	MAY(x, CAN_TAKE(x), TAKES) \
	MAY(x, FLIES(x), COMMITS) \
	MAY(x, FLIES(x), LOSES) \
	MAY(x, releasing[x] > 0, FREES) \
	MAY(x, extEpoch[x] > 0, EXTENDS) \
	MAY(x, greeted[x] || sent[x] != FREE || over[x] != 0, RESTARTS) \
	MAY(x, left[x] > 0 || (IS(NO_JOURNAL) && highest[x] > 0), GUARD_RESTARTS) \
	MAY(x, stops > 0 && !stopped[x], STOPS) \
	MAY(x, stopped[x], GOES_ON) \
	MAY(x, jumps > 0, JUMPS) \
	MAY(x, clones > 0 && epoch[x] > 0, COPIED) \
	MAY(x, CAN_SWITCH_OFF(x), SWITCHED_OFF) \
	MAY(x, off[x] > 0, CONFIRMS) \
	MAY(x, IS(OLD_RUN) && ghost[x] > 0 && greeted[x] && holder[HEAD] == x && !revoked[HEAD], HAUNTS) \
	MAY(x, disks && !amnesiac && lacks[x] > 0 && lacks[2] > 0 && !lost[x] && !lost[1-(x)], ELECTS)

/* A clock of the site's counts something down. */
#define RUNS(x) (over[x] + serveAfter[x] + sentLeft[x] + extLeft[x] + left[x] > 0)

/* What can happen now. */
inline choose() {
	if
	SITE(0)
	SITE(1)
	:: !moving[HEAD] && epoch[HEAD] < epochs && holder[HEAD] != 0 -> s = 0; act = DECIDES
	:: !moving[HEAD] && epoch[HEAD] < epochs && holder[HEAD] != 1 -> s = 1; act = DECIDES
	:: moving[HEAD] -> s = 1 - target[HEAD]; act = TURNS
	:: policies > 0 && !moving[HEAD] -> act = RELOADS
	:: forgets > 0 && length > 0 -> act = FORGETS
	:: amnesiac -> act = CATCHES_UP
	:: s = 0; act = TICK            /* bit 0: the clock of site 0 is fast; bit 1: that of site 1 */
	:: RUNS(0) -> s = 1; act = TICK
	:: RUNS(1) -> s = 2; act = TICK
	:: RUNS(0) && RUNS(1) -> s = 3; act = TICK
	:: calms && !MIRRORED -> calm = 1; act = NOTHING
	fi;
	if
	:: act == FORGETS -> whoLacks()
	:: act != FORGETS && amnesiac -> pair = 2
	:: act != FORGETS && !amnesiac && disks && forgets == 0 && GOES_BACK -> whoStores()
	:: else -> pair = ALL
	fi
}

/* An entry is stored by two of three: pair is the third. */
inline whoStores() {
	if
	:: !lost[1] -> pair = 0
	:: !lost[0] -> pair = 1
	:: !lost[0] && !lost[1] -> pair = 2
	fi
}

/* Who has stored what makes no difference before the witness forgets, and is
 * chosen only then: all but one have everything, and of that one, pair, s
 * entries are missing, none that it has applied. */
#define MAY_LACK(n) (length >= (n) && (pair == 2 || behind[pair] || length - pos[pair] >= (n)))
inline whoLacks() {
	if
	:: pair = 0
	:: pair = 1
	:: pair = 2
	fi;
	if
	:: s = 0
	:: MAY_LACK(1) -> s = 1
	:: MAY_LACK(2) -> s = 2
	:: MAY_LACK(3) -> s = 3
	fi
}
/* All faults are over: everything is done that can be, and then time passes,
 * until patience ends. */
#define FIRST(can, x, what) \
	if \
	:: calm && act == NOTHING && (can) -> s = x; act = what \
	:: else -> skip \
	fi;
#define EITHER(can, what) FIRST(can(0), 0, what) FIRST(can(1), 1, what)
#define IS_STOPPED(x) stopped[x]
#define HAS_RELEASE(x) (releasing[x] > 0)
#define HAS_EXTEND(x) (extEpoch[x] > 0)
#define HAS_CONFIRMED(x) (off[x] > 0)
#define WANTS_RENEWAL(x) (left[x] < HOLD(x) && CAN_RENEW(x))
inline calmly() {
	EITHER(IS_STOPPED, GOES_ON)
	FIRST(amnesiac, 0, CATCHES_UP)
	EITHER(CAN_FOLLOW, FOLLOWS)
	EITHER(CAN_RESTORE, RESTORES)
	EITHER(CAN_GREET, GREETS)
	EITHER(FLIES, COMMITS)
	EITHER(HAS_RELEASE, FREES)
	EITHER(HAS_EXTEND, EXTENDS)
	EITHER(HAS_CONFIRMED, CONFIRMS)
	EITHER(CAN_SHUT, SHUTS)
	EITHER(CAN_RELEASE, RELEASES)
	EITHER(CAN_TAKE, TAKES)
	EITHER(WANTS_RENEWAL, RENEWS)
	FIRST(ticks < PATIENCE, 0, TICK)
	if
	:: act == TICK -> ticks++
	:: calm && act == NOTHING ->
		/* One serves: who holds the last epoch. If ever somebody was asked to. */
		assert((epoch[HEAD] == 0 && !moving[HEAD]) || (!moving[HEAD] && left[holder[HEAD]] > 0 && highest[holder[HEAD]] == epoch[HEAD]))
	:: else -> skip
	fi
}

inline done() {
	if
	:: act == FOLLOWS -> follow()
	:: act == RESTORES -> restore()
	:: act == GREETS -> greet()
	:: act == RENEWS -> send(0)
	:: act == SHUTS -> shut()
	:: act == RELEASES -> releasing[s] = epoch[s]
	:: act == TAKES -> send(1)
	:: act == COMMITS -> commit()
	:: act == LOSES -> forget(s); forgot[s] = forgot[s] || IS(NO_RETRY)
	:: act == FREES ->
		if
		:: releasing[s] == epoch[HEAD] && holder[HEAD] == s && revoked[HEAD] && !released[HEAD] -> new = ENTRY(RELEASE, s, 0)
		:: else -> skip
		fi;
		releasing[s] = 0
	:: act == EXTENDS -> extend()
	:: act == RESTARTS -> restart(s)
	:: act == GUARD_RESTARTS -> guardRestart()
	:: act == STOPS -> stopped[s] = 1; stops--
	:: act == GOES_ON -> stopped[s] = 0
	:: act == JUMPS -> jump()
	:: act == COPIED -> copied()
	:: act == SWITCHED_OFF -> switchedOff()
	:: act == CONFIRMS ->
		if
		:: off[s] == epoch[HEAD] && moving[HEAD] && target[HEAD] == s && revoked[HEAD] && !released[HEAD] ->
			new = ENTRY(RELEASE, s, 0)
		:: else -> skip
		fi;
		off[s] = 0
	:: act == HAUNTS -> ghost[s] = HOLD(s); new = ENTRY(RENEW, s, 0)
	:: act == DECIDES -> new = ENTRY(DECIDE, s, 0)
	:: act == TURNS -> new = ENTRY(TURN, s, 0)
	:: act == RELOADS -> policies--; new = ENTRY(POLICY, 0, 0)
	:: act == FORGETS ->
		forgets--;
		amnesiac = !GOES_BACK;
		lacks[pair] = s;
		k = length - lacks[2];
		lacks[2] = length - (IS(ROLLED_BACK) -> k / 2 : (IS(NO_FSYNC) && k > 0 -> k - 1 : 0))
	:: act == CATCHES_UP ->
		/* Again two have each entry, and will have: who is no matter any more. */
		assert(lacks[0] == 0 || lacks[1] == 0);
		amnesiac = 0;
		lacks[0] = 0; lacks[1] = 0; lacks[2] = 0
	:: act == ELECTS -> assert(GOES_BACK); elect()
	:: act == TICK ->
		k = (IS(DRIFT_BEYOND) -> 2 * fast : fast);
		j = ((s & 1) -> k : slow);
		age(0, j);
		j = ((s & 2) -> k : slow);
		age(1, j)
	:: else -> skip
	fi;
	if
	:: new > 0 -> append()
	:: else -> skip
	fi;
	do      /* what all have applied is not looked at again */
	:: length > 0 && (pos[0] > 0 || lost[0]) && (pos[1] > 0 || lost[1]) && !(lost[0] && lost[1]) -> dropFirst()
	:: else -> break
	od;
	s = 0; act = NOTHING; pair = 0
}

/* What can have no effect any more is forgotten at once, since it might be
 * lost just as well: fewer states. A mistake that gives it one keeps it. */
inline prune() {
	for (k : 0 .. 1) {
		if
		:: prunes && FLIES(k) && taking[k] && epoch[HEAD] >= sentEpoch[k] && !IS(LATE_ACTIVATE) -> forget(k)
		:: prunes && FLIES(k) && k == 1 && epoch[HEAD] == 0 -> forget(k)
		:: prunes && FLIES(k) && !taking[k] && epoch[HEAD] != sentEpoch[k] -> forget(k)
		:: prunes && FLIES(k) && !taking[k] && revoked[HEAD] && !IS(RENEW_REVOKED) && !IS(UNEQUAL_STEP) -> forget(k)
		:: prunes && sent[k] == FLYING && sentLeft[k] == 0 && !IS(FROM_RECEIPT) -> sent[k] = LATE
		:: prunes && sent[k] == LOGGED && sentLeft[k] == 0 && !IS(FROM_RECEIPT) -> unmine(k)
		:: else -> skip
		fi;
		if
		:: prunes && releasing[k] > 0 && (epoch[HEAD] != releasing[k] || released[HEAD]) -> releasing[k] = 0
		:: else -> skip
		fi;
		if
		:: prunes && extEpoch[k] > 0 && (extEpoch[k] < highest[k] || extEpoch[k] <= ended[k]) &&
			!IS(STALE_EPOCH) && !IS(NO_JOURNAL) -> extEpoch[k] = 0; extLeft[k] = 0
		:: else -> skip
		fi;
		if
		:: prunes && off[k] > 0 && (epoch[HEAD] != off[k] || released[HEAD]) -> off[k] = 0
		:: else -> skip
		fi;
		if
		:: prunes && epoch[k] != epoch[HEAD] && !IS(LATE_ACTIVATE) && !GOES_BACK -> outdated(k)
		:: else -> skip
		fi
	}
}

/* The site has yet to learn of an activation. Whatever it sends until then is
 * void; and then it waits for at least a lease, and its view of the move is
 * overwritten. What it does by that view is to close, and to have the other
 * site switched off. Who was the holder counts once more if the policy changes
 * (linger). */
inline outdated(x) {
	if
	:: over[x] <= WAIT(x) && !IS(RESTORE_UNSEEN) -> over[x] = 0
	:: else -> skip
	fi;
	if
	:: devices == 0 ->
		moving[x] = 0; target[x] = 0; released[x] = 0;
		if
		:: !HOLDS(x) && policies == 0 && !brief[HEAD] -> holder[x] = NONE; revoked[x] = 0
		:: else -> skip
		fi
	:: else -> skip
	fi
}

/* The run's last activation is done, and nobody but who has it can open again:
 * no rule can be broken any more. */
#define CANNOT_OPEN(x) (left[x] + extEpoch[x] + sent[x] == 0)
#define SETTLED (prunes && !calms && epoch[HEAD] == epochs && CANNOT_OPEN(1 - holder[HEAD]) && \
	clones + ghost[0] + ghost[1] == 0 && !GOES_BACK)

/* What must hold after every step. */
inline judge() {
	/* One active site. */
	assert(!(OPEN(0) && OPEN(1)));
	/* What was released serves no more. */
	assert(!(released[HEAD] && holder[HEAD] != NONE && OPEN(holder[HEAD])));
	/* Nobody serves whom the log has not named. */
	assert(epoch[HEAD] > 0 || (!OPEN(0) && !OPEN(1)));
	/* Nor do two machines of one site. */
	assert(!(ghost[0] > 0 && left[0] > 0) && !(ghost[1] > 0 && left[1] > 0))
}

/* Only said when a trail is read. */
inline tell() {
	printf("| %d %d | left %d %d ghost %d %d over %d %d serve after %d %d | head %d epoch %d revoked %d released %d moving %d to %d | applied %d %d epochs %d %d | sent %d %d ext %d %d | calm %d %d\n",
		act, s, left[0], left[1], ghost[0], ghost[1], over[0], over[1], serveAfter[0], serveAfter[1],
		holder[HEAD], epoch[HEAD], revoked[HEAD], released[HEAD], moving[HEAD], target[HEAD],
		pos[0], pos[1], epoch[0], epoch[1], sent[0], sent[1], extEpoch[0], extEpoch[1], calm, ticks)
}

init {
	d_step { knobs() };
	do
	:: atomic {
		!calm && !(SETTLED) -> choose();
		do      /* once; in calm until patience ends */
		:: d_step { tell(); done(); prune(); judge(); calmly() };
			if
			:: act == NOTHING -> break
			:: else -> skip
			fi
		od
	}
	:: calm || SETTLED -> break
	od
}
