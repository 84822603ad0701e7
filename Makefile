# draas: the usual ways in. `make demo` shows it working, `make test` tests it.

GO          ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
SEEDS       ?= 200
SEED        ?=
BUG         ?=
BIG         ?=
HUNT        ?= 2000
T           ?= 30s
BUSY        ?= 10m
RUNS        ?= 50
RACE        ?=
BIN         := bin

.PHONY: all build demo test check setup sim model soak matrix matrix-short test-openstack bench bench-frontend bench-sync fuzz clean

all: build

build:
	$(GO) build -o $(BIN)/ ./cmd/...

demo: build
	$(BIN)/draasd demo

# Everything that has to pass before a change lands.
test: setup check
	$(GO) test -race -timeout 20m ./...
	$(MAKE) sim
	$(MAKE) sim BUG=all
	$(MAKE) model
	$(MAKE) soak T=3m
	$(MAKE) matrix-short
	$(MAKE) test-openstack
	$(MAKE) build
	$(BIN)/draasd check -c etc/failover.toml

# What the tests need from Debian: real servers and tools.
setup:
	@sh etc/setup/test-packages

check:
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "gofmt would change: $$bad"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

# SEEDS schedules from seed 1 (or FROM) on, or as many as T takes with FOR=1;
# SEED=n tells one story, SHRINK=1 SEED=n cuts it down, SCHEDULE=file plays what
# that printed. See docs/sim.md.
# BUG=list names bugs that can be put into the build, BUG=name hunts one with as
# many seeds (with SEED=n it tells the story instead), BUG=all all of them, and
# runs the same seeds without them (docs/bugs.md).
sim:
ifneq ($(BUG),)
	@$(GO) build -o $(BIN)/hunt ./internal/sim/bugs/cmd/hunt
	@$(BIN)/hunt -seeds $(HUNT) $(if $(SEED),-seed $(SEED)) $(if $(SHRINK),-shrink) $(BUG)
else
	$(GO) build -o $(BIN)/sim ./internal/sim/cmd/sim
	$(BIN)/sim $(if $(FOR),-for $(T),-seeds $(SEEDS)) $(if $(FROM),-from $(FROM)) $(if $(SEED),-seed $(SEED)) $(if $(SHRINK),-shrink) $(if $(SCHEDULE),-schedule $(SCHEDULE))
endif

# The protocol by itself, exhaustively: BIG=1 checks more and takes longer,
# BUG=list names its mistakes, BUG=NAME tells how one ends. See docs/model.md.
model:
	@$(GO) build -o $(BIN)/model ./model/cmd/model
	@$(BIN)/model $(if $(BIG),-big) $(if $(BUG),-bug $(BUG))

# Real faults on real processes for T, with the faults of SEED if there is one;
# RACE=1 for daemons with the race detector in them. Needs root.
soak:
	$(GO) build $(if $(RACE),-race) -o $(BIN)/soak-draasd ./cmd/draasd
	$(GO) build -o $(BIN)/soak ./internal/soak/cmd/soak
	$(BIN)/soak -draasd $(BIN)/soak-draasd -for $(T) $(if $(SEED),-seed $(SEED)) $(if $(RACE),-race)

# Disasters to a cluster of each scheme, and what users saw, in docs/results.md
# and docs/matrix.html. It goes on where it stopped: what stands in RESULTS is
# not made again. COLUMNS and CELLS are regular expressions. Needs root.
RESULTS ?= $(BIN)/matrix.jsonl
MATRIX   = nice -n -10 $(BIN)/matrix -draasd $(BIN)/draasd $(if $(COLUMNS),-columns '$(COLUMNS)') $(if $(CELLS),-cells '$(CELLS)')
matrix: setup build
	$(GO) build -o $(BIN)/ ./internal/matrix/cmd/matrix
	$(MATRIX) -results $(RESULTS) -table docs/results.md -page docs/matrix.html

# The headline disasters once to each scheme, and one that only the fence keeps
# safe: fails when two sites serve, when a fenced one answers, or when users are
# not served again in time.
matrix-short: setup build
	$(GO) build -o $(BIN)/ ./internal/matrix/cmd/matrix
	$(MATRIX) -short

# Two real OpenStack sites are installed (some 750 MB), started, tested by what
# the cloud in memory is tested by, and ended; says how many tests of conformance
# each has passed, and fails where they differ. The story wants sites that are
# new; facts are looked at in the east while the kinds are in the west. Needs root.
FAKE = $(GO) test -json -count 1
REAL = $(FAKE) -tags openstack -timeout 40m
test-openstack:
	@sh etc/setup/openstack-packages
	$(GO) build -o $(BIN)/ ./internal/lab/openstack/cmd/sites ./internal/lab/cloudtest/cmd/conformance
	@$(BIN)/conformance -fake '$(FAKE) -run "^Test(Suite|Facts|Story|KeystoneOutage)$$" ./internal/lab/fakecloud ./syncer/openstack' \
	  -real '$(BIN)/sites sh -ec "$(REAL) -run StoryOnReal ./syncer/openstack; \
	    $(REAL) -run Real -skip \"Story|Outage\" ./internal/lab/cloudtest ./syncer/openstack; \
	    $(REAL) -run OutageOnReal ./syncer/openstack"'

# One package at a time: they measure. BUSY is how long both cores are kept
# busy beside a cluster that must not move, RUNS how often each disaster is made.
bench: build
	DRAAS_BUSY=$(BUSY) $(GO) test -p 1 -timeout 60m -run '^$$' -bench . -benchmem ./...
	$(BIN)/draasd demo --bench --bench-runs $(RUNS)

# Our frontends beside HAProxy, nginx and no proxy at all: throughput, processor
# time, idle connections, and what users see of disasters and of a planned move.
# PARTS=throughput,idle,downtime; JSON=file takes the result. Some eight minutes.
bench-frontend: setup build
	$(GO) build -o $(BIN)/bench-frontend ./internal/bench/frontend/cmd/bench-frontend
	$(BIN)/bench-frontend -draasd $(BIN)/draasd $(if $(PARTS),-only $(PARTS)) $(if $(JSON),-json $(JSON))

# Replication: ten thousand objects in clouds in memory, fifty thousand in one
# container, and on two real sites, which are started and ended, an image beside
# curl, objects beside python-swiftclient, creations beside openstack. Some nine
# minutes; SYNC is for flags of bench-sync, as SYNC='-rounds 5'. Neutron has as many
# processes as it has by itself on two cores: in one, Python's lock is what is
# measured. Needs root.
bench-sync: build
	@sh etc/setup/openstack-packages
	$(GO) build -o $(BIN)/ ./internal/bench/replication/cmd/bench-sync ./internal/lab/openstack/cmd/sites
	$(BIN)/bench-sync -draasd $(BIN)/draasd -only estate,listing $(SYNC)
	$(BIN)/sites -services glance,neutron,swift -workers 2 $(BIN)/bench-sync -draasd $(BIN)/draasd -only image,objects,creates $(SYNC)

# Every fuzz target in turn, T each, on P workers (all cores); those of one
# package with PKG=quorum. A failing input lies where the last lines say, and go
# test plays it from then on. See docs/fuzz.md.
fuzz:
	@out=$$(mktemp) && trap 'rm -f $$out' EXIT && bad= && \
	for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' $(or $(PKG),.) | xargs -n 1 dirname | sed 's|^\./||' | sort -u); do \
	  for f in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(f \*testing\.F).*/\1/p' $$dir/*_test.go | sort); do \
	    if $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(T) -fuzzminimizetime 1s $(if $(P),-parallel $(P)) ./$$dir >$$out 2>&1; then \
	      echo "ok    $$dir $$f: $$(sed -n 's/^fuzz: elapsed: .*, execs: \([0-9]*\).*, new interesting: \(.*\)$$/\1 runs, new inputs of interest: \2/p' $$out | tail -n 1)"; \
	    else \
	      echo "FAIL  $$dir $$f"; sed 's/^/      /' $$out; \
	      bad="$$bad\n$$dir $$f $$(sed -n "s|.*Failing input written to |$$dir/|p" $$out)"; \
	    fi; \
	  done; \
	done; \
	test -z "$$bad" || { printf "fuzz: failed:$$bad\n"; exit 1; }

clean:
	rm -rf $(BIN)
