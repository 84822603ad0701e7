/* ---------- failover.Step: an entry that is in the log ---------- */

inline apply(v, e) {
	if
	:: KIND(e) == DECIDE ->
		revoked[v] = holder[v] != NONE;
		released[v] = holder[v] == NONE;
		moving[v] = 1;
		target[v] = BY(e)
	:: KIND(e) == TURN -> target[v] = BY(e)
	:: KIND(e) == RELEASE -> released[v] = 1
	:: KIND(e) == POLICY -> brief[v] = 1; linger[v] = 1
	:: KIND(e) == ACTIVATE ->
		/* Who takes from another has waited for its older permits. */
		linger[v] = linger[v] && holder[v] == BY(e) && !IS(TURN_ENDS_LINGER);
		holder[v] = BY(e);
		epoch[v]++;
		revoked[v] = 0; released[v] = 0; moving[v] = 0; target[v] = 0
	:: else -> skip
	fi
}

/* ---------- what a site has sent ---------- */

inline forget(x) { sent[x] = FREE; taking[x] = 0; sentEpoch[x] = 0; sentLeft[x] = 0 }

/* The entry that the site has in the log will grant it nothing. */
inline unmine(x) {
	for (j : 0 .. WINDOW - 1) {
		if
		:: j < length && BY(entry[j]) == x && MINE(entry[j]) -> entry[j] = entry[j] - 1
		:: else -> skip
		fi
	};
	forget(x)
}

inline send(activation) {
	sent[s] = FLYING;
	taking[s] = activation;
	sentEpoch[s] = epoch[s] + activation;
	sentLeft[s] = lease * RATE(slow)
}

/* A proposal of the site's reaches the log, and is judged. A target that is
 * not fit any more is refused, which is the same as a loss. */
inline commit() {
	if
	:: !taking[s] && holder[HEAD] == s && epoch[HEAD] == sentEpoch[s] && (!revoked[HEAD] || IS(RENEW_REVOKED)) ->
		new = ENTRY(RENEW, s, sent[s] == FLYING)
	:: !taking[s] && holder[HEAD] == s && epoch[HEAD] == sentEpoch[s] && revoked[HEAD] && s == 0 && IS(UNEQUAL_STEP) ->
		new = ENTRY(STRAY, s, sent[s] == FLYING)
	:: taking[s] && !MIRRORED && moving[HEAD] && target[HEAD] == s && (epoch[HEAD] + 1 == sentEpoch[s] || IS(LATE_ACTIVATE)) ->
		/* Epochs are unique, and the other site is closed before one is
		 * granted. */
		assert(granted[epoch[HEAD] + 1] == 0);
		assert(!OPEN(1 - s));
		granted[epoch[HEAD] + 1] = s + 1;
		new = ENTRY(ACTIVATE, s, sent[s] == FLYING)
	:: else -> skip
	fi;
	if
	:: new > 0 && sent[s] == FLYING -> sent[s] = LOGGED; sentEpoch[s] = 0
	:: else -> forget(s)
	fi
}

/* ---------- the log ---------- */

inline dropFirst() {
	if
	:: disks && GOES_BACK -> apply(BASE, entry[0])
	:: else -> skip
	fi;
	for (k : 1 .. WINDOW - 1) { entry[k-1] = entry[k] };
	entry[WINDOW-1] = 0;
	length--;
	for (k : 0 .. 2) {
		if
		:: lacks[k] > length -> lacks[k] = length
		:: else -> skip
		fi
	};
	for (k : 0 .. 1) {
		if
		:: behind[k] || lost[k] -> pos[k] = length
		:: !behind[k] && !lost[k] && pos[k] > 0 -> pos[k]--
		:: else ->
			behind[k] = 1;
			pos[k] = length;
			if      /* a snapshot does not tell a site of its own permits */
			:: sent[k] == LOGGED -> unmine(k)
			:: else -> skip
			fi
		fi
	}
}

/* The entry is stored by a majority, the one that the step has chosen. */
inline append() {
	if
	:: length >= window -> dropFirst()
	:: else -> skip
	fi;
	entry[length] = new;
	length++;
	for (k : 0 .. 1) {
		if
		:: behind[k] || lost[k] -> pos[k] = length
		:: else -> skip
		fi
	};
	if
	:: pair != ALL ->
		for (k : 0 .. 2) { lacks[k] = (k == pair -> lacks[k] + 1 : 0) }
	:: else -> skip
	fi;
	apply(HEAD, new);
	new = 0
}

/* ---------- failover.Agent ---------- */

/* Waiting begins: for the permit of the other site, if it may hold one. From
 * the last epoch of a run no move leads on, and nobody needs to wait. */
inline wait(x, t) {
	if
	:: holder[x] == 1 - x && epoch[x] < epochs -> over[x] = t
	:: else -> over[x] = 0
	fi
}

/* Agent.seen: a later end never becomes an earlier one. */
inline seen() {
	d = WAIT(s);
	if
	:: over[s] > d && !IS(RENEWAL_SHORTENS) -> d = over[s]
	:: else -> skip
	fi;
	wait(s, d)
}

/* NewAgent, Agent.Restore, Agent.linger: the last renewal may be of now, and
 * of the policy before. */
inline seenNothing(x) {
	d = WAIT(x);
	if
	:: linger[x] && !IS(NO_LINGER) -> d = LONGEST
	:: else -> skip
	fi;
	wait(x, d)
}

/* Agent.grant, and the Extend that the next Tick makes of it. */
inline grant() {
	d = (brief[s] -> (lease - shorter) * RATE(slow) : 0);
	if
	:: IS(FROM_RECEIPT) -> sentLeft[s] = HOLD(s)
	:: !IS(FROM_RECEIPT) && sentLeft[s] > d -> sentLeft[s] = sentLeft[s] - d
	:: else -> sentLeft[s] = 0
	fi;
	if
	:: sentLeft[s] > 0 -> extEpoch[s] = epoch[s]; extLeft[s] = sentLeft[s]
	:: else -> skip
	fi;
	forget(s)
}

/* Agent.Apply: the next entry. */
inline follow() {
	k = entry[pos[s]];
	apply(s, k);
	pos[s]++;
	if
	:: lacks[s] > length - pos[s] -> lacks[s] = length - pos[s]
	:: else -> skip
	fi;
	if
	:: KIND(k) == RENEW -> seen()
	:: KIND(k) == ACTIVATE ->
		closed[s] = 0;
		if
		:: IS(ACTIVATE_UNSEEN) -> over[s] = 0
		:: else -> seen()
		fi
	:: KIND(k) == POLICY -> seenNothing(s)
	:: else -> skip
	fi;
	if
	:: KIND(k) == DECIDE || KIND(k) == TURN || KIND(k) == ACTIVATE -> forgot[s] = 0
	:: else -> skip
	fi;
	if
	:: MINE(k) && BY(k) == s -> grant()
	:: else -> skip
	fi
}

inline restore() {
	if
	:: epoch[s] != epoch[HEAD] -> closed[s] = 0
	:: else -> skip
	fi;
	holder[s] = holder[HEAD]; epoch[s] = epoch[HEAD]; revoked[s] = revoked[HEAD]; released[s] = released[HEAD];
	moving[s] = moving[HEAD]; target[s] = target[HEAD]; brief[s] = brief[HEAD]; linger[s] = linger[HEAD];
	behind[s] = 0;
	forgot[s] = 0;
	lacks[s] = 0;
	if
	:: IS(RESTORE_UNSEEN) -> skip
	:: else -> seenNothing(s)
	fi
}

/* The daemon dies and starts. What it had sent may still arrive; it will not
 * know since when that counts. */
inline restart(x) {
	greeted[x] = 0; closed[x] = 0; off[x] = 0;
	forgot[x] = IS(LOST_MOVE) && moving[x];
	if
	:: sent[x] == FLYING -> sent[x] = LATE; sentLeft[x] = 0
	:: sent[x] == LOGGED -> unmine(x)
	:: else -> skip
	fi;
	if
	:: IS(BORN_READY) -> over[x] = 0
	:: else -> seenNothing(x)
	fi;
	if
	:: IS(ROLE_FROM_FILE) && x == 0 && epoch[x] > 0 -> extEpoch[x] = epoch[x]; extLeft[x] = HOLD(x)
	:: else -> skip
	fi
}

/* Its hello is committed and applied: what earlier runs have sent is void. On
 * another boot than before a lease is waited out first (Agent.applyHello). */
inline greet() {
	greeted[s] = 1;
	releasing[s] = 0;
	if
	:: sent[s] == LATE -> forget(s)
	:: else -> skip
	fi;
	if
	:: newBoot[s] ->
		serveAfter[s] = (linger[s] && !IS(BOOT_NO_LINGER) -> LONGEST : WAIT(s));
		newBoot[s] = !IS(BOOT_ONCE)
	:: else -> serveAfter[s] = 0
	fi
}

/* ---------- fence.Ledger ---------- */

inline extend() {
	if
	:: (extEpoch[s] >= highest[s] && extEpoch[s] > ended[s]) || IS(STALE_EPOCH) ->
		/* An epoch comes from the log, and from nowhere else. */
		assert(granted[extEpoch[s]] == s + 1);
		if
		:: extEpoch[s] == highest[s] && left[s] >= extLeft[s] -> skip
		:: else -> highest[s] = extEpoch[s]; left[s] = extLeft[s]
		fi
	:: else -> skip
	fi;
	extEpoch[s] = 0; extLeft[s] = 0
}

/* Close, observed, and told to the daemon. */
inline shut() { highest[s] = epoch[s]; ended[s] = epoch[s]; left[s] = 0; closed[s] = 1 }

/* The guard dies and starts: it closes first, and knows its journal. */
inline guardRestart() {
	left[s] = 0;
	if
	:: IS(NO_JOURNAL) -> highest[s] = 0; ended[s] = 0
	:: else -> skip
	fi
}

/* ---------- machines ---------- */

/* All of the machine's memory is gone; its disk is not. The fence is closed at
 * boot. */
inline powerOff(x) {
	left[x] = 0; extEpoch[x] = 0; extLeft[x] = 0; serveAfter[x] = 0; newBoot[x] = 1; stopped[x] = 0;
	restart(x)
}

/* The machine's copy starts, while the machine runs on, cut off: it serves for
 * as long as it was granted. What is on its way to its guard, or in the log and
 * not applied, it may have got just before: then that is the step before this
 * one. That the copy has got it as well makes no difference: it does nothing
 * before its hello, and until then it has caught up. */
inline copied() {
	if      /* of two copies' originals, the one that serves */
	:: left[s] > ghost[s] -> ghost[s] = left[s]
	:: else -> skip
	fi;
	powerOff(s);
	clones--
}

/* A device switches the old site off, and it is seen to be off. */
inline switchedOff() {
	off[s] = epoch[s];
	devices--;
	if
	:: IS(UNCONFIRMED) -> skip
	:: else -> powerOff(1 - s)
	fi
}

/* ---------- the log without what the witness has forgotten ---------- */

inline elect() {
	d = length - (lacks[s] < lacks[2] -> lacks[s] : lacks[2]);
	for (k : 0 .. 1) {
		if      /* what it sent is lost with the entry */
		:: sent[k] == LOGGED ->
			for (j : d .. WINDOW - 1) {
				if
				:: j < length && BY(entry[j]) == k && MINE(entry[j]) -> forget(k)
				:: else -> skip
				fi
			}
		:: else -> skip
		fi
	};
	holder[HEAD] = holder[BASE]; epoch[HEAD] = epoch[BASE]; revoked[HEAD] = revoked[BASE];
	released[HEAD] = released[BASE]; moving[HEAD] = moving[BASE]; target[HEAD] = target[BASE];
	brief[HEAD] = brief[BASE]; linger[HEAD] = linger[BASE];
	for (k : 0 .. WINDOW - 1) {
		if
		:: k < d -> apply(HEAD, entry[k])
		:: else -> entry[k] = 0
		fi
	};
	lacks[1-s] = (lacks[1-s] > length - d -> lacks[1-s] - (length - d) : 0);
	lacks[s] = 0; lacks[2] = 0;
	length = d;
	j = epoch[HEAD] + 1;
	for (k : j .. EPOCHS) { granted[k] = 0 };
	if
	:: pos[1-s] > d || behind[s] -> lost[1-s] = 1; greeted[1-s] = 0; pos[1-s] = d; forget(1 - s)
	:: else -> skip
	fi
}

/* ---------- time ---------- */

inline less(t, n) {
	if
	:: t > n -> t = t - n
	:: else -> t = 0
	fi
}

/* Waits are measured on the boot clock; a deadline has passed when either
 * clock says so. */
inline age(x, n) {
	d = (stopped[x] -> 0 : n);
	less(over[x], d);
	if
	:: serveAfter[x] > 0 ->
		less(serveAfter[x], d);
		if
		:: serveAfter[x] == 0 -> newBoot[x] = 0
		:: else -> skip
		fi
	:: else -> skip
	fi;
	d = (IS(BOOT_CLOCK_ONLY) || IS(BOTH_CLOCKS_STOP) -> d : n);
	less(sentLeft[x], d);
	if
	:: IS(LATE_WRITE) -> skip
	:: else -> less(extLeft[x], d)
	fi;
	if
	:: extLeft[x] == 0 -> extEpoch[x] = 0
	:: else -> skip
	fi;
	if
	:: IS(FENCE_NEEDS_DAEMON) && !greeted[x] -> skip
	:: else -> less(left[x], d)
	fi;
	less(ghost[x], slow)
}

/* The wall clock is stepped back: the boot clock still ends what it began. */
inline jump() {
	jumps--;
	if
	:: IS(WALL_CLOCK_ONLY) && left[s] > 0 -> left[s] = left[s] + slow
	:: else -> skip
	fi
}
