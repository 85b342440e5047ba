# SPDX-License-Identifier: MIT
# `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KERNELS := 6.1 6.12 7.3
GUEST_TESTS := $(KERNELS:%=test-guest-%)
SHAPE_TESTS := $(KERNELS:%=test-shape-%)
FUZZERS := $(KERNELS:%=fuzz-%)
STORMS := $(KERNELS:%=storms-%)
ZEROS := $(KERNELS:%=zeros-%)
MUTATIONS := $(KERNELS:%=mutations-%)
RACES := races-7.3
SHIM_STORMS := $(KERNELS:%=shim-storms-%)
UPSTREAM := $(KERNELS:%=upstream-%)
SELFTESTS := selftests-6.12
DEBUG_TESTS := test-debug-storm test-debug-mutations test-debug-fuzz

# Python files are read where they are. Directories count, so that a removed file does; but not
# kmod's, which may be built in place.
SOURCES := meson.build meson.options pyproject.toml $(wildcard tests/*/*.pyx tests/*/*/*.pyx) \
	tools/in_place.py \
	$(shell find cleanup allocator_shim experiments \( -type d -o -name '*.[ch]' -o -name '*.pyx' \
		-o -name meson.build \) -not -path '*/__pycache__*') \
	$(shell find kmod -type f \( -name '*.[ch]' -o -name Makefile -o -name Kbuild \) \
		-not -name '*.mod.c')
C_SOURCES := $(shell find kmod allocator_shim tests -name '*.[ch]' -not -name '*.mod.c')

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(VENV)/requirements.txt ## the Python environment, in .venv

$(VENV)/requirements.txt: pyproject.toml tools/requirements.py tools/system-packages.sh
	tools/system-packages.sh $(PYTHON)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; name another: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PYTHON) tools/requirements.py > $@.new
	$(BIN)/pip install --quiet --requirement $@.new
	mv $@.new $@

.PHONY: build
build: $(VENV)/installed ## build the project and put it on the path of .venv's Python

# The lock is for two makes at once in one checkout.
$(VENV)/installed: $(VENV)/requirements.txt $(SOURCES)
	@mkdir -p build/editable
	PATH="$(CURDIR)/$(BIN):$$PATH" flock build/lock pip install --quiet --no-build-isolation --no-deps \
		--config-settings=build-dir=build/editable --config-settings=setup-args=-Dtests=true \
		--config-settings=setup-args=-Dexperiments=true --editable .
	$(BIN)/python tools/in_place.py build/editable
	@$(BIN)/python -m compileall -q cleanup allocator_shim experiments
	@touch $@

.PHONY: demo
demo: build ## both headline experiments on 6.12, the table and results/report.html
	$(BIN)/pgtable-cleanup experiment run series-50g tebibyte --kernel 6.12 --out results

# The tiers run two at a time, the longest first, and all of them run whichever fails.
TIERS := test-host test-debug-mutations $(GUEST_TESTS) test-debug-storm test-debug-fuzz $(SHAPE_TESTS) test-unit

.PHONY: test
test: build ## every test: unit, host, and the guests of all kernels
	@rm -f build/tiers build/boots
	@echo "$(TIERS): what each says comes when it ends"
	@export PGTABLE_CLEANUP_BOOT_LOG=$(CURDIR)/build/boots; \
	$(MAKE) --keep-going --output-sync -j2 --no-print-directory $(TIERS); code=$$?; \
	touch build/boots; cat build/tiers; echo "$$(wc -l < build/boots) guests booted"; exit $$code

# Runs a command, and adds a line to build/tiers that says how it ended and how long it took.
comma := ,
tier = @begun=$$(date +%s); $(1); code=$$?; \
	printf '%-20s %s in %d s\n' $@ $$([ $$code = 0 ] && echo passed || echo FAILED) \
		$$(($$(date +%s) - begun)) >> build/tiers; exit $$code

.PHONY: test-unit
test-unit: build ## tests that need no kernel feature
	$(call tier,$(BIN)/pytest tests/unit)

.PHONY: test-host
test-host: build ## tests that try this machine
	$(call tier,$(BIN)/pytest tests/host)

.PHONY: test-guest
test-guest: $(GUEST_TESTS) $(SHAPE_TESTS) ## tests of the module on every kernel; test-guest-6.12: on one

# A test that hangs ends the tier, with the stacks of its threads; all of them take ten minutes, and
# more on a busy machine.
TEST_GUEST = $(BIN)/pgtable-cleanup lab run --timeout 2700
GUEST_PYTEST = $(CURDIR)/$(BIN)/pytest -o faulthandler_timeout=180 -o faulthandler_exit_on_timeout=true

.PHONY: $(GUEST_TESTS)
$(GUEST_TESTS): test-guest-%: build
	$(call tier,$(TEST_GUEST) --kernel $* --memory 3G --disk 1G -- $(GUEST_PYTEST) tests/guest)

# The tree's other shape: 4 levels where the guests above have 5, and PTI's second copy of the top;
# and a third CPU, for a race that takes three.
.PHONY: $(SHAPE_TESTS)
$(SHAPE_TESTS): test-shape-%: build
	$(call tier,$(TEST_GUEST) --kernel $* --cpu max$(comma)-la57 --cpus 3 --append pti=on -- \
		$(GUEST_PYTEST) tests/guest/test_upper_levels.py tests/guest/test_zero_pages_race.py)

# The figures of a proof that passed go there.
RESULTS = evidence/proofs

# As much of the proofs as there is time for, on one kernel; what they found is not kept.
# Of looking at mutations.
MINUTES = 12

.PHONY: $(DEBUG_TESTS)
$(DEBUG_TESTS): export KERNEL ?= $(shell $(PROOF).turn)
test-debug-storm: build
	$(call tier,$(MAKE) --no-print-directory storms-$$KERNEL SECONDS=90 RESULTS=build/results)
test-debug-mutations: build
	$(call tier,$(PROOF).mutations look --kernel $$KERNEL --runs 8 --minutes $(MINUTES))
test-debug-fuzz: build
	$(call tier,$(MAKE) --no-print-directory fuzz-$$KERNEL DEBUG=--debug CALLS=2000 RESULTS=build/results)

# Of arguments; over layouts an eighth as many. By default a million with all kernels.
CALLS = 300000
# On debug kernels: DEBUG=--debug.
DEBUG =

.PHONY: fuzz
fuzz: $(FUZZERS) ## random arguments and layouts on every kernel; fuzz-6.12: on one

.PHONY: $(FUZZERS)
$(FUZZERS): fuzz-%: build
	mkdir -p $(RESULTS)
	$(BIN)/pgtable-cleanup lab run --kernel $* $(DEBUG) --memory 3G --timeout 7200 --results $(RESULTS) -- \
		$(GUEST_PYTEST) -o faulthandler_timeout=7000 tests/proof/fuzz --calls $(CALLS)

# How long, from which seed (a new one by default), how often the module is replaced meanwhile.
SECONDS = 60
SEED =
RELOADS = 2
# A module with a data race, which KCSAN is to report first: see races.
RACE =
# The build of the kernel: debug, or kcsan.
CHECKS = debug
# All shapes of the tree are among them: PTI's second copy of the top, 4 levels, and 5.
STORM_SHAPE_6.1 = --append pti=on
STORM_SHAPE_6.12 = --append no5lvl

.PHONY: storms
storms: $(STORMS) ## all that changes page tables, at once, on debug kernels; storms-6.12: on one

.PHONY: $(STORMS)
$(STORMS): storms-%: build
	mkdir -p $(RESULTS)
	shadow=$$($(PROOF).modules shadow --kernel $* --build $(CHECKS)) && \
	$(BIN)/pgtable-cleanup lab run --$(CHECKS) --kernel $* $(STORM_SHAPE_$*) --numa 2 --cpus 4 \
		--memory 3G --disk 1G --timeout $$(($(SECONDS) + 60 * $(RELOADS) + 1800)) --results $(RESULTS) -- \
		env PYTHONPATH=tests:build/editable $(CURDIR)/$(BIN)/python -P -m proof.storms \
		--seconds $(SECONDS) --reloads $(RELOADS) $(SEED:%=--seed %) --shadow $$shadow $(RACE:%=--race %)

.PHONY: races
races: $(RACES) ## the storms on a kernel that looks for data races

# By default KCSAN has an access in 4000 wait for 80 us: emulated CPUs hardly ever meet in that.
RACES_APPEND = kcsan.skip_watch=2000 kcsan.udelay_task=4000

.PHONY: $(RACES)
$(RACES): races-%: build
	race=$$($(PROOF).modules race --kernel $* --build kcsan) && \
	$(MAKE) --no-print-directory storms-$* CHECKS=kcsan STORM_SHAPE_$*="--append '$(RACES_APPEND)'" \
		RACE=$$race

.PHONY: shim-storms
shim-storms: build ## threads, signals and forks, and redis with its snapshots, under the library
	PGTABLE_CLEANUP_RESULTS=$(RESULTS) $(BIN)/pytest \
		tests/host/test_shim_storms_here.py tests/host/test_programs_here.py \
		-k "libcs_malloc or jemallocs_hooks or snapshots" --storm-seconds $(SECONDS)

# The same threads, with the module that frees tables below them.
.PHONY: $(SHIM_STORMS)
$(SHIM_STORMS): shim-storms-%: build
	mkdir -p $(RESULTS)
	$(BIN)/pgtable-cleanup lab run --kernel $* --timeout $$((5 * $(SECONDS) + 600)) --results $(RESULTS) -- \
		$(CURDIR)/$(BIN)/pytest tests/guest/test_shim_storm.py --storm-seconds $(SECONDS)

.PHONY: zeros
zeros: $(ZEROS) ## a million rounds of reads behind writes to dropped zero pages; zeros-6.12: on one

# Who allocates or frees a page flushes the TLB with that check, and each fault takes so much longer.
ZEROS_APPEND = debug_pagealloc=off

.PHONY: $(ZEROS)
$(ZEROS): zeros-%: build
	mkdir -p $(RESULTS)
	$(BIN)/pgtable-cleanup lab run --debug --kernel $* --cpus 3 --append $(ZEROS_APPEND) \
		--timeout 14400 --results $(RESULTS) -- \
		env PYTHONPATH=tests:build/editable $(CURDIR)/$(BIN)/python -P -m proof.stale_zeros

# What runs on the host and has guests of its own.
PROOF = PYTHONPATH=tests:build/editable $(BIN)/python -P -m proof

# Runs with each protection off; the last one's report is what docs/mutations.md is made of.
RUNS = 5

.PHONY: mutations
mutations: $(MUTATIONS) ## each protection off, is it noticed? on debug kernels; mutations-6.12: on one

.PHONY: $(MUTATIONS)
$(MUTATIONS): mutations-%: build
	$(PROOF).mutations run --kernel $* --runs $(RUNS)

.PHONY: upstream
upstream: $(UPSTREAM) ## the bugs that Linux itself had, on debug kernels; upstream-6.12: on one

.PHONY: $(UPSTREAM)
$(UPSTREAM): upstream-%: build
	$(PROOF).upstream --kernel $*

.PHONY: selftests
selftests: $(SELFTESTS) ## the kernel's own mm tests, without a cleaner and beside one

# From tests/, so that the guest's command finds the proof there, too.
.PHONY: $(SELFTESTS)
$(SELFTESTS): selftests-%: build
	mkdir -p $(RESULTS)
	cd tests && $(CURDIR)/$(BIN)/python -m proof.selftests --kernel $* --results $(abspath $(RESULTS))

.PHONY: proof
proof: build ## all proofs that have not passed as they are, hours of them, and build/proof.html
	$(PROOF)

MYPY = MYPYPATH=tests:tests/guest:tests/host:tests/proof/fuzz:tests/unit $(BIN)/mypy
TEST_MODULES = $(subst /,.,$(patsubst tests/%.py,-m %,$(wildcard tests/*.py tests/*/*.py tests/*/*/*.py)))

.PHONY: docs
docs: build ## the documentation site and the man pages, in build/docs
	$(BIN)/sphinx-build --quiet --fail-on-warning -b html docs build/docs/html
	$(BIN)/sphinx-build --quiet --fail-on-warning -b man docs build/docs/man

.PHONY: figures
figures: build ## the figures of README.md and docs/, from docs/results
	$(BIN)/python -P tools/figures

.PHONY: lint
lint: build ## ruff, mypy and clang-format
	@$(MAKE) --keep-going --no-print-directory lint-python lint-types lint-c

.PHONY: lint-python
lint-python: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: lint-types
lint-types: build
	$(MYPY) -p cleanup -p allocator_shim -p experiments $(TEST_MODULES)

.PHONY: lint-c
lint-c: venv
	$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)

.PHONY: clean
clean: ## remove what the build made
	rm -rf build $(VENV)
