# SPDX-License-Identifier: MIT
# `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KERNELS := 6.1 6.12 7.3

# Directories too, so that a removed file counts; but not kmod's, which builds in place.
SOURCES := meson.build pyproject.toml \
	$(shell find cleanup $(wildcard experiments) -not -path '*/__pycache__*' -print) \
	$(shell find kmod -type f \( -name '*.[ch]' -o -name Makefile -o -name Kbuild \) \
		-not -name '*.mod.c')

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(VENV)/requirements.txt ## the Python environment, in .venv

$(VENV)/requirements.txt: pyproject.toml tools/requirements.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; name another: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PYTHON) tools/requirements.py > build.requirements.txt
	$(BIN)/pip install --quiet --requirement build.requirements.txt
	mv build.requirements.txt $@

.PHONY: build
build: $(VENV)/installed ## build and install the project into .venv

# The lock is for two makes at once in one checkout.
$(VENV)/installed: $(VENV)/requirements.txt $(SOURCES)
	@mkdir -p build/python
	PATH="$(CURDIR)/$(BIN):$$PATH" flock build/lock pip install --quiet --no-build-isolation --no-deps \
		--config-settings=build-dir=build/python .
	@touch $@

.PHONY: clean
clean: ## remove what the build made
	rm -rf build $(VENV)
