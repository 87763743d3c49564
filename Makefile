# Two commands do everything: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	>/dev/null 2>&1 && { echo "$$python"; break; }; done)
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/share/copywatch/ready

.DEFAULT_GOAL := help
.PHONY: help demo test setup lint lock experiments env-example machine clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

demo: setup ## the whole chain on a demo site; EXIT=1 decides the reviews itself, judges, and ends
	@$(BIN)/python -m copywatch.demo $(if $(filter 1,$(EXIT)),--exit,)

test: setup ## every test
	@$(BIN)/python -m pytest $(ARGS)

setup: machine $(READY) ## .venv, Delta's jars, the tag models, the class-data archive
	@$(BIN)/python -m copywatch.prepare

machine:
	@test -n "$(PYTHON)" || { echo "setup: Python 3.11, 3.12 or 3.13 with venv is needed; none was found." \
		"Install one (Debian: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@command -v git >/dev/null || { echo "setup: git is needed (Debian: apt-get install git)" >&2; exit 1; }
	@java="$${JAVA_HOME:+$$JAVA_HOME/bin/}java"; \
		version=$$("$$java" -version 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p' | head -n 1); \
		test "$${version:-0}" -ge 17 || { echo "setup: Java 17 or newer is needed; '$$java' is $${version:-not there}." \
		"Install one (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME" >&2; exit 1; }
	@free=$$(df -Pk . | awk 'NR == 2 {print int($$4 / 1048576)}'); \
		test "$$free" -ge 4 || { echo "setup: 4 GiB of free disk are needed here; there are $$free" >&2; exit 1; }

$(BIN)/uv:
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(READY): requirements-dev.txt pyproject.toml | $(BIN)/uv
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --requirement requirements-dev.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@mkdir -p $(dir $(READY)) && touch $(READY)

lint: setup ## ruff and mypy
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

lock: $(BIN)/uv ## compile requirements.txt, -dev.txt and -experiments.txt from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
		pyproject.toml --output-file requirements.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --extra dev \
		--constraint requirements.txt pyproject.toml --output-file requirements-dev.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --extra experiments \
		--constraint requirements.txt pyproject.toml --output-file requirements-experiments.txt

EXPERIMENTS := distance_histogram matching_accuracy chamoso_tables tag_pruning inner_share rescoring robustness_grid \
	extraction_and_matching seen_cost second_stage search_cost

experiments: setup ## the papers' experiments; PHOTOS=a folder of photos, else the demo's few, which only print
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --requirement requirements-experiments.txt
	@for experiment in $(EXPERIMENTS); do \
		$(BIN)/python -m benchmarks.$$experiment $(if $(PHOTOS),--photos "$(PHOTOS)",) $(ARGS) || exit 1; done

env-example: setup ## write .env.example: every setting of ours, and what docker-compose.yaml asks for
	@{ echo "# Copy this file to .env. Settings of Copywatch; each line shows the default."; echo; \
		$(BIN)/python -c "from copywatch.settings import env_example; print(env_example())"; \
		cat deploy/variables.env.example; } > .env.example

clean: ## remove everything that set-up and the demo made
	@rm -rf $(VENV) var demo-result.json
