# Every target does its own set-up: a virtual environment in .venv, from requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PEERS ?=
# Tests wait for devices more than they compute: three at a time suit two cores.
WORKERS ?= 3
SEEDS ?= 20
TARGET ?=
SECONDS ?=
RUNS ?=
HOURS ?= 1
JOBS ?= 2

.PHONY: help demo test test-install check mutants fuzz fuzz-guided faults swarm endurance bench bundle lock clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/ready  ## the whole system on this machine: make demo [ARGS="--headless --seconds 60 --json"]
	@$(BIN)/python -m simulators.demo $(ARGS)

test: $(VENV)/ready  ## all tests, with real sockets and a real broker
	@PATH="$$PATH:/usr/sbin" sh tests/need_mosquitto.sh
	@PATH="$$PATH:/usr/sbin" $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

test-install: $(VENV)/ready  ## install, update, power cuts on a real booted Debian 12, or 13 with SUITE=trixie; as root (minutes)
	@PATH="$$PATH:/usr/sbin" $(BIN)/python tests/install/run.py $(ARGS)

check: $(VENV)/ready  ## ruff, mypy --strict, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

mutants: $(VENV)/ready  ## each guard of the core taken out: do its tests notice? (some minutes)
	@$(BIN)/python -m tests.mutants $(ARGS)

fuzz: $(VENV)/ready  ## a million mutated messages at each parser of the cloud side: make fuzz [ARGS="--count 10000000"] (five minutes)
	@$(BIN)/python -m tests.fuzz.cloud_messages --count 1000000 --jobs $(JOBS) $(ARGS)

# Not in requirements.lock: it has wheels for x86-64 and Python 3.11 to 3.13 alone, and nothing else needs it.
ATHERIS := atheris==3.0.0

fuzz-guided: $(VENV)/ready  ## coverage-guided, every parser that meets the outside: make fuzz-guided [TARGET=plan] [SECONDS=60] [RUNS=1000000]
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install -q --disable-pip-version-check --only-binary :all: $(ATHERIS) >&2 \
	  || { echo "fuzz-guided needs $(ATHERIS), which comes for x86-64 with Python 3.11 to 3.13 only"; exit 1; }
	@$(BIN)/python -m tests.fuzz.guided $(if $(TARGET),--target $(TARGET)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(RUNS),--runs $(RUNS)) $(ARGS)

faults: $(VENV)/ready  ## every row of the fault matrix, results into docs/reliability.md: make faults [ARGS="--area disk"] (some minutes)
	@PATH="$$PATH:/usr/sbin" $(BIN)/python -m tests.faults.campaign $(ARGS)

swarm: $(VENV)/ready  ## random faults over random sites, the whole agent on virtual time: make swarm [SEEDS=20] [HOURS=1] [JOBS=2]
	@$(BIN)/python -m simulators.virtual.swarm --seeds $(SEEDS) --hours $(HOURS) --jobs $(JOBS) $(ARGS)

endurance: $(VENV)/ready  ## seven days of the whole agent on virtual time: does anything grow? make endurance [ARGS="--away 0.2:30 --days 31"]
	@$(BIN)/python -m simulators.virtual.endurance $(ARGS)

bench: $(VENV)/ready  ## what the agent costs beside bare scripts, into docs/performance.md: make bench [PEERS=1] [ARGS="--only poll droop"] (a quarter of an hour)
	@PATH="$$PATH:/usr/sbin" $(BIN)/python -m tests.benchmarks.bench $(if $(PEERS),--peers) $(ARGS)

bundle: $(VENV)/ready  ## dist/ems-agent-VERSION.tar for gateways without internet: make bundle KEY=release-key.pem
	@$(BIN)/python -m bundle.build $(if $(KEY),--key $(KEY)) $(ARGS)

lock: $(VENV)/ready  ## renew requirements.lock from pyproject.toml
	$(BIN)/python -m pip install -q "pip-tools>=7"
	$(BIN)/pip-compile -q --strip-extras --extra dev --generate-hashes --allow-unsafe --no-header \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml

clean:  ## forget the virtual environment and all caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "ems-agent needs Python 3.11 or later, this is " + sys.version)'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python cannot make virtual environments here. Run: apt-get install python3-venv"; exit 1; }
	@echo "Setting up $(VENV), once: about a minute" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock >&2
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
	@touch $@
