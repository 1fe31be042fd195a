# Two commands do everything, on a machine with Rust, CPython 3.11 and gcc:
#
#     make demo      builds, then shows the main job in two processes
#     make test      builds and checks on each supported Python that is installed
#
# `make help` lists the rest. Everything lands in .venv/ and target/; each Python has a virtual
# environment and a build folder of its own, so that building for one leaves the others as they are.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:
.PHONY: demo test help build lint fmt fmt-check ruff clippy mypy dependencies deny cargo-test \
        pythons pip-install readme clean fuzz memcheck soak soak-dump soak-pickling soak-servers

# The tags of the Pythons found, oldest first: py311 py312 py313.
ifeq ($(origin PYTHONS), undefined)
PYTHONS := $(shell tools/pythons --found)
endif
# The Python that runs the demo and the tools.
FIRST := $(firstword $(PYTHONS))
BIN := .venv/$(FIRST)/bin
RESULTS := target/results
# A test that hangs where its own limit cannot reach it ends the run, with all stacks printed.
LONGEST_PYTEST := 900

ifeq ($(FIRST),)
ifeq ($(filter help clean,$(MAKECMDGOALS)),)
$(info $(shell tools/pythons | sed 's/$$/;/'))
$(error No usable CPython found: objspace needs CPython 3.11, 3.12 or 3.13)
endif
endif

step = @printf '\n== %s\n' "$(1)"

SOURCES := Cargo.toml Cargo.lock pyproject.toml rust-toolchain.toml README.md \
           $(shell find crates python -type f ! -name '*.so' ! -name '*.pyc')

help:
	@echo "make demo              build, then run the main job in two processes"
	@echo "make test              every check, and the tests on each Python found ($(PYTHONS))"
	@echo "make test-py311        the tests of one Python only; ARGS='-k name' goes to pytest"
	@echo "make library-py311     the tests of Jinja2 with its objects replaced by proxies"
	@echo "make memcheck          the tests of proxies under memory checkers, where installed (minutes)"
	@echo "make build             build and install into .venv/py3NN, for each Python found"
	@echo "make lint              formatting, clippy, ruff, mypy, dependency rules"
	@echo "make fmt               format the Rust and the Python code"
	@echo "make soak-pickling     2 000 random generators, pickled at every yield; 1 000 programs that run deep"
	@echo "make soak              10 000 random programs on one process and on two, ARGS='--seed 1'"
	@echo "make soak-servers      two servers and eight clients for SOAK_SECONDS (7200), with kills"
	@echo "make soak-dump         ten test modules of CPython, without and under the recorder, each Python"
	@echo "make fuzz              each fuzz target for FUZZ_SECONDS (60) on the kept corpus"
	@echo "make readme            put the demo's output into README.md"
	@echo "make clean             remove what was built; the next build starts from nothing"
	@echo
	@echo "PYTHONS='py312' make test  limits a command to some Pythons"

# The cheapest checks come first; the first failure ends the run.
# Every Python is built before one is tested: a test joins two of them.
test: pythons fmt-check ruff dependencies deny clippy cargo-test build \
      clippy-$(FIRST) mypy $(PYTHONS:%=test-%) $(PYTHONS:%=library-%) pip-install
	$(call step,Pythons)
	@tools/pythons | awk -F '\t' '{ printf "%-8s %s  %s\n", $$1, $$2, $$4 }'
	$(call step,Results of pytest)
	@$(BIN)/python tools/summary $(RESULTS) $(PYTHONS)

pythons:
	@tools/pythons | awk -F '\t' '{ printf "%-8s %s  %s\n", $$1, $$2, $$4 }'

demo: .venv/$(FIRST)/installed
	@$(BIN)/python examples/stdlib_index/demo.py

readme: .venv/$(FIRST)/installed
	@$(BIN)/python tools/refresh-readme

# Needs a nightly toolchain and cargo-fuzz.
FUZZ_SECONDS := 60
fuzz:
	@tools/fuzz $(FUZZ_SECONDS)

build: $(PYTHONS:%=.venv/%/installed)

## Environments, one for each Python

.venv/%/created: tools/pythons
	$(call step,$*: virtual environment)
	@python=$$(tools/pythons --path $*); \
	test -n "$$python" || { echo "no CPython for $*; make pythons says why" >&2; exit 1; }; \
	rm -rf .venv/$*; "$$python" -m venv .venv/$*
	@.venv/$*/bin/python -m pip install --quiet --disable-pip-version-check \
	    "$$(grep '^maturin==' requirements-dev.txt)"
	@touch $@

.venv/%/dev: .venv/%/created requirements-dev.txt
	$(call step,$*: development tools)
	@.venv/$*/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# One profile for the demo and the tests, so that the extension is built once for each Python.
.venv/%/installed: .venv/%/created $(SOURCES)
	$(call step,$*: build and install)
	@rm -rf target/$*/wheels
	@tools/with-python $* .venv/$*/bin/maturin build --release --locked \
	    --interpreter .venv/$*/bin/python --out target/$*/wheels
	@.venv/$*/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall \
	    --no-deps target/$*/wheels/objspace-*.whl
	@.venv/$*/bin/python -m pip install --quiet --disable-pip-version-check \
	    target/$*/wheels/objspace-*.whl
	@touch $@

.PRECIOUS: .venv/%/created .venv/%/dev .venv/%/installed

## Checks that need no build of the extension

lint: fmt-check ruff dependencies deny clippy mypy $(PYTHONS:%=clippy-%)

fmt: .venv/$(FIRST)/dev
	cargo fmt --all
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

fmt-check:
	$(call step,cargo fmt)
	@cargo fmt --all --check

ruff: .venv/$(FIRST)/dev
	$(call step,ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

dependencies:
	$(call step,crates without Python)
	@tools/check-dependencies

deny:
	$(call step,cargo deny)
	@if ! cargo deny --version >/dev/null 2>&1; then \
	    echo "not installed, skipped (cargo install cargo-deny)"; \
	else \
	    cargo deny --all-features --log-level error check bans licenses sources && \
	    if cargo deny --log-level off fetch db >/dev/null 2>&1; then \
	        cargo deny --all-features --log-level error check --disable-fetch advisories; \
	    else echo "advisories not checked: their database cannot be fetched"; fi; \
	fi

clippy:
	$(call step,clippy: crates without Python)
	@cargo clippy --locked --all-targets -- -D warnings

cargo-test:
	$(call step,cargo test: crates without Python)
	@cargo test --locked --quiet

mypy: .venv/$(FIRST)/dev .venv/$(FIRST)/installed
	$(call step,mypy --strict and stubtest)
	@$(BIN)/mypy
	@cd target && ../$(BIN)/python -I -m mypy.stubtest objspace \
	    --allowlist ../tests/stubtest_allowlist.txt

## Checks of one Python

clippy-%: .venv/%/created
	$(call step,$*: clippy)
	@tools/with-python $* cargo clippy --locked --all-targets \
	    -p objspace-interp -p objspace-python -- -D warnings

layout-%: .venv/%/created
	$(call step,$*: struct layouts against the installed headers)
	@tools/with-python $* .venv/$*/bin/python tools/layout-check/layout_check.py -q

cargo-test-%: .venv/%/created
	$(call step,$*: cargo test)
	@tools/with-python $* cargo test --locked --quiet -p objspace-interp

test-%: clippy-% layout-% cargo-test-% .venv/%/dev .venv/%/installed
	$(call step,$*: pytest)
	@mkdir -p $(RESULTS); rm -f $(RESULTS)/pytest-$*.xml
	@timeout --signal=ABRT --kill-after=30 $(LONGEST_PYTEST) \
	    .venv/$*/bin/python -I -m pytest --junitxml=$(RESULTS)/pytest-$*.xml $(ARGS)

# The tests of a library whose central objects are replaced by proxies.
library-%: .venv/%/dev .venv/%/installed
	$(call step,$*: the tests of Jinja2 over proxies)
	@tools/library-suite $*

# Memory, as checked by the allocator's own guards, a debug build of CPython and valgrind.
memcheck: .venv/$(FIRST)/dev .venv/$(FIRST)/installed
	$(call step,memory)
	@tools/memcheck $(FIRST)

# What a user types, with the build backend that pip fetches by itself.
pip-install: .venv/$(FIRST)/created
	$(call step,$(FIRST): pip install .)
	@rm -rf target/pip-install; .venv/$(FIRST)/bin/python -m venv target/pip-install
	@CARGO_TARGET_DIR=$(CURDIR)/target/pip target/pip-install/bin/python -m pip install \
	    --quiet --disable-pip-version-check .
	@cd target && pip-install/bin/objspace --version
	@rm -rf target/pip-install

SOAK_SECONDS ?= 7200

soak-servers: .venv/$(FIRST)/installed
	$(call step,$(FIRST): servers for $(SOAK_SECONDS) s)
	@$(BIN)/python tools/soak-servers --seconds $(SOAK_SECONDS)

soak-dump: $(PYTHONS:%=soak-dump-%)

soak-dump-%: .venv/%/installed
	$(call step,$*: test modules of CPython under the recorder)
	@.venv/$*/bin/python tools/soak-dump $(ARGS)

soak-pickling: .venv/$(FIRST)/dev .venv/$(FIRST)/installed
	$(call step,$(FIRST): soak of pickling)
	@cd target && OBJSPACE_CORPUS=2000 OBJSPACE_CHAINS=1000 ../$(BIN)/python -I -m pytest \
	    -c ../pyproject.toml --rootdir .. --timeout 0 -q ../tests/pickling/test_corpus.py \
	    ../tests/pickling/test_chain_corpus.py $(ARGS)

# The outcome of random programs over a channel that cuts and delays, against the outcome without one:
# one thread, with the tables compared after each program, then three threads at once.
soak: .venv/$(FIRST)/installed
	$(call step,$(FIRST): soak)
	@cd tests/distributed && ../../$(BIN)/python -m twin.compare --threads 1 --programs 5000 $(ARGS)
	@cd tests/distributed && ../../$(BIN)/python -m twin.compare --threads 3 --programs 6000 $(ARGS)

clean:
	rm -rf .venv target
