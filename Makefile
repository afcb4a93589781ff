# Targets for people; `make help` lists them.
VENV    ?= .venv
DATA    ?=
SOURCE  ?=
PORT    ?= 5000
FILES    = $(if $(DATA),"$(DATA)") $(if $(SOURCE),--source "$(SOURCE)")
VERSION := import sys; sys.version_info < (3, 11) and sys.exit(1); print("%d.%d" % sys.version_info[:2])
# The virtual environment's own Python, once there is one; before that the newest that is found.
PYTHON  ?= $(shell for name in "$(VENV)/bin/python" python3.13 python3.12 python3.11 python3; do \
             "$$name" -c '$(VERSION)' >/dev/null 2>&1 && echo "$$name" && break; done)
FOUND   := $(shell "$(PYTHON)" -c '$(VERSION)' 2>/dev/null)
# An environment knows its own path, so one that was moved along with the project is made anew.
MADE_AT := $(shell readlink -f "$(VENV)")
READY   := $(VENV)/.ready-$(FOUND)-$(firstword $(shell echo "$(MADE_AT)" | cksum))

export PATH := $(if $(filter /%,$(VENV)),,$(CURDIR)/)$(VENV)/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true

.DEFAULT_GOAL := help
.PHONY: help install repro best check test test-faults test-grow test-cuda bench format ui clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(READY)  ## make the virtual environment from the pinned requirements; PYTHON=<a Python from 3.11 on>

$(READY): requirements.txt requirements-dev.txt pyproject.toml
	@[ -n "$(FOUND)" ] || { echo "error: found $(or $(PYTHON),no Python), expected Python 3.11 or later; name one, as in:" \
	  "make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@[ "$$("$(VENV)/bin/python" -c '$(VERSION)' 2>/dev/null)" = "$(FOUND)" ] && grep -qsF "$(MADE_AT)" "$(VENV)/bin/activate" \
	  || "$(PYTHON)" -m venv --clear "$(VENV)"
	@python -m pip --version >/dev/null 2>&1 || python -m ensurepip >/dev/null  # an environment made by uv has no pip
	python -m pip install --quiet --requirement requirements-dev.txt
	python -m pip install --quiet --no-deps --editable .
	@touch $@

repro: $(READY)  ## run the pipeline on DATA=<folder>, SOURCE=kaggle, or the files of the last call (at first the sample)
	@unroll data $(FILES)
	@dvc repro
	@unroll results

best: $(READY)  ## the best submission: all folds, word vectors; continues where it was interrupted
	@pip install --quiet --no-deps --requirement requirements-lexicons.txt
	@unroll data $(FILES) --profile best
	@dvc repro
	@unroll results

check: $(READY)  ## lint and types
	ruff check .
	ruff format --check .
	mypy
	hadolint --failure-threshold warning Dockerfile

test: $(READY)  ## all tests but the long ones of faults
	pytest -q -m "not faults" --numprocesses 2 --dist loadfile

test-faults: $(READY)  ## programs killed, disks full, stores away, hostile files; a table of what was lost at the end
	FUZZ_CASES=15500 pytest -q tests/faults --numprocesses 2 --dist worksteal

test-grow: $(READY)  ## sweeps on a Ray cluster and S3 storage; installs requirements-grow.txt
	pip install --quiet --requirement requirements-grow.txt
	pytest -q tests/tuning tests/test_remote.py

test-cuda: $(READY)  ## training on a CUDA device, which the other tests leave alone
	TEST_DEVICES=0 pytest -q tests/training/test_graphs.py

bench: $(READY)  ## speed compared with common implementations, on DATA; writes reports/benchmarks/
	python -m benchmarks $(if $(DATA),--data "$(DATA)")

format: $(READY)  ## format the code
	ruff check --fix .
	ruff format .

ui: $(READY)  ## the MLflow UI; PORT=5000
	@unroll ui --port $(PORT)

clean:  ## remove what the pipeline made, DVC's cache and MLflow's runs; history.csv stays
	rm -rf .cache .dvc/cache .dvc/tmp data/raw data/settings data/rows data/corpus data/ensemble models mlruns mlartifacts mlflow.db* \
	  reports/figures reports/plots reports/details reports/submissions/*.json reports/index.html reports/summary.md \
	  reports/hello.json
	find reports/submissions -name '*.csv' ! -name history.csv -delete 2>/dev/null || true
