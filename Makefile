# SPDX-License-Identifier: MIT
# `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KERNELS := $(shell sed -n 's/^\["\(.*\)"\]$$/\1/p' cleanup/lab/kernels.toml)

# A directory changes as files go. kmod's are left out: they change as well when it is built there.
SOURCES := meson.build meson.options pyproject.toml $(wildcard tests/*.c tests/*/*.pyx tests/*/*/*.pyx) \
	tools/in_place.py \
	$(shell find cleanup allocator_shim experiments \( -type d -o -name '*.[chS]' -o -name '*.pyx' \
		-o -name meson.build \) -not -path '*/__pycache__*') \
	$(shell find kmod -type f \( -name '*.[ch]' -o -name Makefile -o -name Kbuild \) \
		-not -name '*.mod.c')
C_SOURCES := $(shell find kmod allocator_shim tests -name '*.[ch]' -not -name '*.mod.c')
MAKE_QUIETLY := $(MAKE) --keep-going --output-sync --no-print-directory

.PHONY: help venv build demo test test-unit test-host test-guest prove prove-long evidence figures docs lint clean
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9.%-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/requirements.txt ## the Python environment, in .venv

$(VENV)/requirements.txt: pyproject.toml tools/requirements.py tools/system-packages.sh
	tools/system-packages.sh $(PYTHON)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; name another: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PYTHON) tools/requirements.py > $@.new
	$(BIN)/pip install --quiet --requirement $@.new
	mv $@.new $@

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

demo: build ## both headline experiments on 6.12, the table and results/report.html
	$(BIN)/pgtable-cleanup experiment run series-50g tebibyte --kernel 6.12 --out results

# The tiers run two at a time, the longest first, and all of them run whichever fails.
TIERS := test-host $(KERNELS:%=test-guest-%) $(KERNELS:%=test-lab-%) $(KERNELS:%=test-shape-%) test-unit

test: build build/bytecode ## every test: unit, host, and the guests and experiments of all kernels
	@rm -f build/tiers build/boots
	@echo "$(TIERS): what each says comes when it ends"
	@export PGTABLE_CLEANUP_BOOT_LOG=$(CURDIR)/build/boots; $(MAKE_QUIETLY) -j2 $(TIERS); code=$$?; \
	touch build/boots; cat build/tiers; echo "$$(grep -c ': booted' build/boots) guests booted"; exit $$code

# Runs a command, and adds how it ended to build/tiers. By 69 the lab says that Debian has no such kernel.
tier = @begun=$$(date +%s); $(1); code=$$?; ended=FAILED; \
	case $$code in 0) ended=passed ;; 69) ended='skipped, as there is no such kernel,'; code=0 ;; esac; \
	printf '%-20s %s in %d s\n' $@ "$$ended" $$(($$(date +%s) - begun)) >> build/tiers; exit $$code

test-unit: build ## tests that need no kernel feature
	$(call tier,$(BIN)/pytest tests/unit)

test-host: build ## tests that try this machine, and boot the lab
	$(call tier,$(BIN)/pytest tests/host --ignore-glob '*_in_lab.py' --ignore-glob '*_at_length.py')

test-lab-%: build ## every experiment but heaps, quickly, on one kernel
	$(call tier,$(BIN)/pytest tests/host/test_experiments_in_lab.py --kernel $*)

test-guest: $(KERNELS:%=test-guest-%) ## tests of the module on every kernel; test-guest-6.12: on one

# A test that hangs ends the tier, with the stacks of its threads.
TEST_GUEST = $(BIN)/pgtable-cleanup lab run --timeout 2700
GUEST_PYTEST = $(CURDIR)/$(BIN)/pytest -o faulthandler_timeout=180 -o faulthandler_exit_on_timeout=true

# Guests can't write to the tree, so that pytest's bytecode of the tests has to be made here.
build/bytecode: $(VENV)/installed $(wildcard tests/*.py tests/guest/*.py)
	@PYTHONDONTWRITEBYTECODE= PGTABLE_CLEANUP_LAB=1 $(BIN)/pytest --collect-only tests/guest > $@ || { cat $@; false; }

test-guest-%: build/bytecode
	$(call tier,$(TEST_GUEST) --kernel $* --memory 3G --disk 1G -- $(GUEST_PYTEST) tests/guest)

# Trees of 4 levels, not 5; PTI's second copy of the top; and a third CPU, for a race that takes three.
SHAPE = --cpu max,-la57 --cpus 3 --append pti=on
test-shape-%: build/bytecode
	$(call tier,$(TEST_GUEST) --kernel $* $(SHAPE) -- $(GUEST_PYTEST) \
		tests/guest/test_upper_levels.py tests/guest/test_zero_pages_race.py)

# `make prove-storms-6.12 ARGS=--long`, say; ARGS=--help lists all that can follow.
PROOF = PYTHONPATH=tests:build/editable $(BIN)/python -P -m proof
kernel = $(lastword $(subst -, ,$*))

prove: build ## what must be proved anew since the module changed, on debug kernels: 45 minutes
	$(MAKE_QUIETLY) --output-sync=none -j2 $(foreach each,mutations storms fuzz,$(KERNELS:%=prove-all-$(each)-%))

prove-long: build ## all proofs that did not pass with the module as it is: hours
	$(PROOF) all --long

prove-%: build ## one proof on one kernel: prove-storms-6.12
	$(PROOF) $(patsubst all-%,all %,$(patsubst %-$(kernel),%,$*)) --kernel $(kernel) $(ARGS)

evidence: build ## measure all experiments at full size on every kernel, and then figures: hours
	$(BIN)/pgtable-cleanup experiment run --all $(KERNELS:%=--kernel %) --resume --out evidence/experiments
	$(MAKE) figures

figures: build ## the figures of README.md and docs/, from what is stored
	PYTHONPATH=tests $(BIN)/python -P tools/figures

docs: build ## the documentation site and the man pages, in build/docs
	$(BIN)/sphinx-build --quiet --fail-on-warning -b html docs build/docs/html
	$(BIN)/sphinx-build --quiet --fail-on-warning -b man docs build/docs/man

TEST_MODULES = $(subst /,.,$(patsubst tests/%.py,-m %,$(wildcard tests/*.py tests/*/*.py tests/*/*/*.py)))

lint: build ## ruff, mypy, stubtest and clang-format
	@$(MAKE) --keep-going --no-print-directory lint-python lint-types lint-c

lint-python: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types: build
	MYPYPATH=tests:tests/guest:tests/host:tests/proof/fuzz:tests/unit $(BIN)/mypy -p cleanup -p allocator_shim -p experiments $(TEST_MODULES) && $(BIN)/stubtest --mypy-config-file pyproject.toml $(subst /,.,$(basename $(wildcard allocator_shim/*.pyi)))

lint-c: venv
	$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)

clean: ## remove what the build made
	rm -rf build $(VENV)
