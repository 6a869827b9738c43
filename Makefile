# A fresh machine needs Python 3.11 or later and make; everything else is set up here, in .venv.
#
#   make run     set up what is locked, then run the proxy in the foreground
#   make test    set up everything, then all checks: lint, types, arrows, tests
#   make soak    the long form of the tests that kill, cut and starve: MINUTES=30 or as many as you say
#   make bench   the benchmarks: limits to bench/README.md, the comparison to bench/report/; in
#                .venv-bench, with the Python that BENCH_PYTHON names
#   make lock    new lock files from pyproject.toml
#   make docs    the generated pages of docs/
#   make dashboards  dashboards/generated/, from dashboards/boards/
#   make preview     each board as a picture, from a live run, in .cache/preview
#   make alerts      alerts/generated/ and the table of docs/alerts.md, from alerts/
#   make clean   remove what the other targets made
#
# A stamp file records each finished step, so that a second run starts at once.

PYTHON ?= python3
VENV ?= .venv
# Extra words for `taximeter serve`, for example: make run ARGS="--config taximeter.yaml"
ARGS ?=
# What `make bench` measures with: the distribution's Python, where it is new enough
BENCH_PYTHON ?= $(shell /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  2>/dev/null && echo /usr/bin/python3 || echo $(PYTHON))
BENCH_VENV ?= .venv-bench
# How long `make soak` may take
MINUTES ?= 30
# Extra words for pytest, for example: make test PYTEST="tests/settings -k yaml"
PYTEST ?=
# How many files of tests `make test` runs at a time; 0 runs them in one process, as --pdb needs it
WORKERS ?= 2

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
CHECKED := proxy tests tools $(wildcard bench) dashboards alerts deploy

.PHONY: run test lint soak bench benchmarks lock docs dashboards preview alerts clean

run: $(VENV)/.run
	$(BIN)/taximeter serve $(ARGS)

# Some machines have Python keep no bytecode. Here it is started hundreds of times.
test: export PYTHONDONTWRITEBYTECODE =
test: lint $(VENV)/.system $(VENV)/.types
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder $(PYTEST)

lint: $(VENV)/.test
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

soak: $(VENV)/.test $(VENV)/.system
	$(BIN)/python -m tests.rig.length $(MINUTES) $(PYTEST)

# With a Python built as people have it: compiled without profile-guided optimisation, as by hand or
# by a version manager, the same code takes a tenth to a sixth more.
bench:
	$(MAKE) PYTHON=$(BENCH_PYTHON) VENV=$(BENCH_VENV) benchmarks

benchmarks: $(VENV)/.test $(VENV)/.system
	$(BIN)/python -m bench $(ARGS)
	$(BIN)/python -m bench.peers $(ARGS)

docs: $(VENV)/.run
	$(BIN)/python tools/make_docs.py

dashboards: $(VENV)/.test
	$(BIN)/python -m dashboards.kit

preview: $(VENV)/.test $(VENV)/.system
	tools/system-packages preview
	$(BIN)/python -m dashboards.preview $(ARGS)

alerts: $(VENV)/.run
	$(BIN)/python -m alerts

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "taximeter needs Python 3.11 or later; name one: make PYTHON=python3.12 ..."; exit 1; }
	@tools/system-packages venv $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	touch $@

# The lock files are complete, so pip need not look for dependencies: it would ask for those that
# pyproject.toml overrides. The checkout itself is installed in place, from what the lock file
# brought: no network, and no build environment of its own.
$(VENV)/.run: $(VENV)/.made requirements/run.lock pyproject.toml
	$(INSTALL) --no-deps --require-hashes --only-binary :all: --requirement requirements/run.lock
	$(INSTALL) --no-index --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.lock
	$(INSTALL) --no-deps --require-hashes --only-binary :all: --requirement requirements/test.lock
	touch $@

# Engines that the tests and benchmarks run beside the proxy.
$(VENV)/.system: $(VENV)/.made tools/system-packages
	VENV=$(VENV) tools/system-packages engines
	touch $@

# Grafana's types, to hold the boards against. Without npm that test says what it left out.
$(VENV)/.types: $(VENV)/.made dashboards/check/package-lock.json
	if command -v npm > /dev/null; then npm ci --prefix dashboards/check --silent; fi
	touch $@

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --upgrade pyproject.toml --group build

# The test lock is made with the run lock as its constraint, so what is tested is what runs.
lock: $(VENV)/.made
	$(INSTALL) uv
	$(LOCK) --output-file requirements/run.lock
	$(LOCK) --group test --constraint requirements/run.lock --output-file requirements/test.lock

clean:
	rm -rf $(VENV) $(BENCH_VENV) dashboards/check/node_modules build dist .cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find proxy tests tools $(wildcard bench) -name __pycache__ -type d -prune -exec rm -rf {} +
