# Everything runs in a virtual environment of its own, .venv, which is made on first use and again
# whenever the lock or pyproject.toml changes. `make` alone lists the targets.

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
SOURCES := schedules cost_model tuner service migrations tests

PIP_COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes \
               --strip-extras --allow-unsafe \
               --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test acceptance chaos bench-measure bench-search bench-model \
        bench-service bench-log bench-gpu bench-kernels check fmt lock serve screenshots clean

help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | \
	    awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/pip || python3.11 -m venv --clear $(VENV) || python3 -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

install: $(STAMP) ## make the virtual environment from the lock

demo: $(STAMP) ## tune real operators on this machine, start to finish
	$(BIN)/tunesmith demo

serve: $(STAMP) ## run the server and a local worker on 127.0.0.1:8700
	$(BIN)/tunesmith serve --with-worker

test: $(STAMP) ## run the tests
	$(BIN)/pytest -q -m 'not slow and not alone' --numprocesses auto --maxprocesses 4 --dist worksteal
	$(BIN)/pytest -q -m 'not slow and alone'

acceptance: $(STAMP) ## the slow tests: tune every operator over REST (some 25 minutes)
	$(BIN)/pytest -q -m slow

screenshots: $(STAMP) ## pictures of the dashboard's pages into docs/images (a minute; needs Chromium)
	$(BIN)/pytest -q tests/browser --screenshots docs/images

chaos: $(STAMP) ## inject every fault and count what is lost (half an hour, resumable; QUICK=1: a few of each)
	$(BIN)/python -W ignore -m tests.chaos

bench-measure: $(STAMP) ## the measurement engine beside stock MetaSchedule's (an hour; QUICK=1: 5 minutes)
	$(BIN)/python -m tests.benchmarks.bench_measure

bench-search: $(STAMP) ## the search beside MetaSchedule's, on one space and one measurer (7 hours and the corpus, resumable; QUICK=1: 8 minutes)
	$(BIN)/python -W ignore -m tests.benchmarks.bench_search $(BENCH_ARGS)

bench-service: $(STAMP) ## load the service with a fleet, on PostgreSQL (40 minutes; QUICK=1: 3 minutes)
	$(BIN)/python -m tests.benchmarks.bench_service

bench-log: $(STAMP) ## the tuning log with ten million records (15 minutes, 20 GB of disk; QUICK=1: 1 minute)
	$(BIN)/python -W ignore -m tests.benchmarks.bench_log

bench-gpu: $(if $(BENCH_PYTHON),,$(STAMP)) ## tune kernels on this machine's GPU beside PyTorch (BENCH_PYTHON: one that has it)
	$(or $(BENCH_PYTHON),$(BIN)/python) -m tests.benchmarks.bench_gpu $(BENCH_ARGS)

bench-kernels: $(STAMP) ## tune kernels beside PyTorch and TVM's tuner (7 hours, resumable; QUICK=1: 4 cases)
	$(BIN)/python -W ignore -m tests.benchmarks.bench_kernels $(BENCH_ARGS)

bench-model: $(STAMP) ## the cost model on unseen shapes beside TVM's (45 minutes, resumable; QUICK=1: 5)
	$(BIN)/python -W ignore -m tests.benchmarks.bench_model

check: $(STAMP) ## lint, formatting, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(STAMP) ## format the code and apply safe lint fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The smaller locks start as copies of the large one, so that all three pin the same releases.
lock: $(STAMP) ## pin what pyproject.toml needs (UPGRADE=1: the newest of everything; minutes)
	$(PIP_COMPILE) $(if $(UPGRADE),--upgrade) --extra server --extra dask --extra dev \
	    -o requirements.lock pyproject.toml
	cp requirements.lock requirements-server.lock
	$(PIP_COMPILE) --extra server --extra dask -o requirements-server.lock pyproject.toml
	cp requirements.lock requirements-worker.lock
	$(PIP_COMPILE) -o requirements-worker.lock pyproject.toml

clean: ## remove the virtual environment, caches and build output
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	    .import_linter_cache
	find $(wildcard $(SOURCES)) -name __pycache__ -type d -prune -exec rm -rf {} +
