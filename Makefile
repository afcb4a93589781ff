# Targets for people; `make help` lists them.
PYTHON ?= python3.11
VENV   ?= .venv
DATA   ?= data/sample
SOURCE ?= local
PORT   ?= 5000
BIN    := $(abspath $(VENV))/bin
READY  := $(VENV)/.ready

export PATH := $(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true

.DEFAULT_GOAL := help
.PHONY: help install repro best test test-faults test-grow check bench format ui clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(READY)  ## make the virtual environment from the pinned requirements

$(READY): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	  || { echo "error: $(PYTHON) is not Python 3.11; name one, as in: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

repro: $(READY)  ## run the pipeline: on the sample, on DATA=<folder>, or on SOURCE=kaggle
	@unroll data "$(DATA)" --source "$(SOURCE)"
	@dvc repro
	@unroll results

best: $(READY)  ## the best submission: all folds, word vectors; goes on where it was interrupted
	@$(BIN)/pip install --quiet --no-deps --requirement requirements-lexicons.txt
	@unroll data "$(DATA)" --source "$(SOURCE)" --profile best
	@dvc repro
	@unroll results

check: $(READY)  ## lint, types, and the tests that take seconds
	ruff check .
	ruff format --check .
	mypy
	hadolint --failure-threshold warning Dockerfile
	pytest -q -m "not slow and not faults" --numprocesses 2 --dist loadfile

test: $(READY)  ## all tests but the long ones of faults
	pytest -q -m "not faults" --numprocesses 2 --dist loadfile

test-faults: $(READY)  ## programs killed, disks full, stores away, hostile files; a table of what was lost at the end
	FUZZ_CASES=20000 pytest -q tests/faults --numprocesses 2 --dist worksteal

test-grow: $(READY)  ## several processes and hosts, sweeps on a Ray cluster, S3 storage; installs requirements-grow.txt
	$(BIN)/pip install --quiet --requirement requirements-grow.txt
	pytest -q tests/test_processes.py tests/test_ondisk.py tests/test_tune.py tests/test_remote.py

bench: $(READY)  ## speed beside what is commonly written, on DATA; writes reports/benchmarks/
	python -m benchmarks --data "$(DATA)"

format: $(READY)  ## format the code
	ruff check --fix .
	ruff format .

ui: $(READY)  ## the MLflow UI, opened where the runs are compared; PORT=5000
	@unroll ui --port $(PORT)

clean:  ## remove what the pipeline made, DVC's cache and MLflow's runs; history.csv stays
	rm -rf .cache .dvc/cache .dvc/tmp data/raw data/rows data/corpus data/ensemble models mlruns mlartifacts mlflow.db* \
	  reports/figures reports/plots reports/submissions/*.json reports/index.html reports/hello.json
	find reports/submissions -name '*.csv' ! -name history.csv -delete 2>/dev/null || true
