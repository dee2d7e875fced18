# Everything a developer types. `make` alone says what there is.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
UV_VERSION := 0.13.9
CHECKOV_VERSION := 3.3.30
UV ?= $(shell command -v uv || echo .uv/bin/uv)
export UV_PYTHON ?= $(PYTHON)
export UV_PYTHON_DOWNLOADS ?= never
RUN := .venv/bin/python
MEMBERS := pyproject.toml serving/pyproject.toml functions/pyproject.toml training/pyproject.toml
# One more than two cores: many tests wait for processes.
WORKERS ?= 3
OVERLOAD ?= 600
STACK ?= dev
FUZZ ?= 3000

.PHONY: help demo up down plan scan test test-fast test-settings bench bench-quick bench-overload lint format pins clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.demo .venv-serving/.done ## Install, then watch the whole loop run on this machine (about a minute)
	@$(RUN) -m local demo

up: .venv/.demo .venv-serving/.done ## Install, then bring the platform up on this machine and leave it running
	@$(RUN) -m local up

down: ## End what `make up` started
	@$(RUN) -m local down

plan: .venv/.demo ## What a stack would be: cost, policy, critical path, changes (STACK=prod); no credentials
	@$(RUN) -m local plan $(STACK)

scan: .venv/.demo .venv-scan/.done ## A second opinion on dev and prod: checkov's rules, and why some do not hold
	@$(RUN) -m policy.scan --checkov .venv-scan/bin/checkov dev prod

test: .venv/.dev .venv-serving/.done ## Install, then run every test
	@$(RUN) -m pytest -n $(WORKERS) --dist worksteal

test-fast: .venv/.dev .venv-serving/.done ## The tests that do not run the whole loop
	@$(RUN) -m pytest -n $(WORKERS) --dist worksteal -m "not loop"

test-settings: .venv/.dev ## Hold the program against many random settings, and each setting alone (minutes)
	@SETTINGS_EXAMPLES=200 SETTINGS_ALONE=1 $(RUN) -m pytest -n $(WORKERS) --dist worksteal tests/contract/test_any_settings.py tests/contract/test_every_setting.py

fuzz: .venv/.dev .venv-serving/.done ## Ask the model server tens of thousands of odd things (FUZZ=3000 of each kind; minutes)
	@SERVING_FUZZ_EXAMPLES=$(FUZZ) $(RUN) -m pytest -n $(WORKERS) --dist worksteal -o timeout=3000 \
	  tests/serving/test_fuzz.py tests/serving/test_v2_fuzz.py tests/serving/test_fuzz_routes.py tests/serving/test_neighbours.py

bench: .venv/.demo .venv-serving/.done ## Measure the model server and its peers; needs wrk, h2load for gRPC (about 14 minutes)
	@UV=$(UV) $(RUN) -m bench

bench-quick: .venv/.demo .venv-serving/.done ## Measure the model server alone (about 2 minutes)
	@UV=$(UV) $(RUN) -m bench --plan quick

bench-overload: .venv/.demo .venv-serving/.done ## Ten minutes at 120 % of the server's capacity (OVERLOAD=600 seconds); needs wrk
	@UV=$(UV) $(RUN) -m bench.overload --seconds $(OVERLOAD)

lint: .venv/.dev ## Style, format and strict types
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/basedpyright

format: .venv/.dev ## Repair what ruff can repair
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

pins: .venv/.dev ## Move every pinned version to the newest that fits, for all members at once
	@UV=$(UV) $(RUN) .ci/pins.py --upgrade

clean: ## Remove environments, caches and reports
	@rm -rf .venv .venv-scan .venv-serving .uv .local reports uv.lock .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments: one for the program, its tests and the local engine; a lean one for the pods ---

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is older than 3.11; say which to use: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "Installing uv $(UV_VERSION) into .uv/ ..."
	@$(PYTHON) -m venv .uv
	@.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# Only what the demo needs; packages that `make test` installed stay.
.venv/.demo: $(MEMBERS) | $(filter .uv/bin/uv,$(UV))
	@echo "Installing what the demo needs into .venv/ ..."
	@$(UV) sync --quiet --inexact --all-packages --no-default-groups --group local
	@touch $@

.venv/.dev: $(MEMBERS) | $(filter .uv/bin/uv,$(UV))
	@echo "Installing the development environment into .venv/ ..."
	@$(UV) sync --quiet --all-packages
	@touch $@ .venv/.demo

# The scanner's many packages stay apart from the program's.
.venv-scan/.done: Makefile | $(filter .uv/bin/uv,$(UV))
	@echo "Installing checkov into .venv-scan/ ..."
	@$(UV) venv --quiet --clear .venv-scan
	@$(UV) pip install --quiet --no-config --python .venv-scan/bin/python checkov==$(CHECKOV_VERSION)
	@touch $@

.venv-serving/.done: $(MEMBERS) | $(filter .uv/bin/uv,$(UV))
	@echo "Installing the pods' environment into .venv-serving/ ..."
	@UV_PROJECT_ENVIRONMENT=.venv-serving $(UV) sync --quiet --package trainserve-serving
	@touch $@
