# Understudy: every job is a target, and every target installs what it needs into .venv by itself.
#
#   make demo ARGS=FILE        another file through the pipeline
#   make test ARGS='-k name'   a part of the suite
#   make test PYTHON=python3.13 VENV=.venvs/3.13
#                              another interpreter, beside the usual one
#
# What it takes: Python >= 3.11, make, and a package index that pip can reach.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# The first interpreter that is new enough and can make a virtual environment (some systems split ensurepip off).
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
    $$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
    && { echo $$python; break; }; done)
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
ARGS ?=
# How many processes run the suite; 0: this one, for a debugger.
WORKERS ?= 2

bin := $(VENV)/bin
# -qq: errors only. Which mirrors and extra indexes this machine's pip looks at is its own business.
pip := $(bin)/python -m pip --disable-pip-version-check --no-input install -qq -c $(CONSTRAINTS)
# No build isolation: the build uses the setuptools that the constraints pin, like everything else.
editable := $(pip) --no-build-isolation -e
inputs := setup.cfg pyproject.toml $(CONSTRAINTS)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- what people run ----------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.run ## the notification pipeline with a crash midway; ARGS=FILE runs another file
	@$(bin)/python -m examples.notifications $(ARGS)

.PHONY: test
test: $(VENV)/.test ## the suite, two files at a time: most of it waits for servers; ARGS go to pytest
	@$(bin)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

.PHONY: check lint mypy pyright contracts
check: lint mypy pyright contracts ## lint, formatting, types, import contracts; -k goes on after a failure

lint: $(VENV)/.dev
	@$(bin)/ruff check .
	@$(bin)/ruff format --check .

mypy: $(VENV)/.dev .types/understudy
	@$(bin)/mypy .types/understudy

pyright: $(VENV)/.dev .types/understudy
	@$(bin)/pyright --pythonpath $(bin)/python

contracts: $(VENV)/.dev
	@$(bin)/lint-imports --no-logo

.PHONY: format
format: $(VENV)/.dev ## apply the formatter and the linter's safe fixes
	@$(bin)/ruff check --fix .
	@$(bin)/ruff format .

# --- what the project claims --------------------------------------------------------------------------------

.PHONY: bench
bench: $(VENV)/.run ## Understudy and pykka in turn, ratios of medians; a million supervised actors
	@$(bin)/python -m benchmarks $(ARGS)

.PHONY: bench-services
bench-services: $(VENV)/.bench ## the service actors on running servers and the bare clients in turn, ratios of medians
	@$(bin)/python -m benchmarks.services $(ARGS)

.PHONY: bench-tasks
bench-tasks: $(VENV)/.bench ## durable tasks, dramatiq and celery in turn on one Redis; ARGS='--url sqlite:' for a file
	@$(bin)/python -m benchmarks.tasks $(ARGS)

.PHONY: conformance
conformance: $(VENV)/.test ## pykka's own suite, unedited, on our actors and futures
	@$(bin)/python tests/conformance $(ARGS)

.PHONY: otp
otp: $(VENV)/.test ## how much of the OTP supervisor checklist is tested, and why the rest is not
	@$(bin)/python tests/supervisors/otp $(ARGS)

.PHONY: chaos
chaos: $(VENV)/.test ## 60,000 notifications, 10,000 tasks, 100 drains, a minute of alarm; ARGS='--seed N'
	@$(bin)/python -m tests.chaos $(ARGS)
	@$(bin)/python -m tests.chaos.tasks $(ARGS)
	@$(bin)/python -m tests.chaos.drains $(ARGS)
	@$(bin)/python -m tests.chaos.alarm $(ARGS)

.PHONY: docs
docs: $(VENV)/.run ## rewrite the generated parts of the documentation
	@$(bin)/python docs $(ARGS)

.PHONY: test-all-pythons
test-all-pythons: ## the suite on every CPython of 3.11, 3.12 and 3.13 that is on PATH or in pyenv
	@status=0; for version in 3.11 3.12 3.13; do \
	    python=; \
	    for candidate in python$$version "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python; do \
	        "$$candidate" -c 'import ensurepip' >/dev/null 2>&1 && { python=$$candidate; break; }; \
	    done; \
	    if [ -z "$$python" ]; then echo "== CPython $$version: not found"; continue; fi; \
	    echo "== $$($$python --version) ($$python)"; \
	    $(MAKE) test PYTHON="$$python" VENV=.venvs/$$version || status=1; \
	done; exit $$status

.PHONY: test-lower-bounds
test-lower-bounds: ## the suite on the lowest version of every dependency that setup.cfg allows
	@mkdir -p .venvs
	@sed -nE 's/^ +([a-z-]+)(\[[a-z]+\])? >= ([0-9.]+)$$/\1==\3/p' setup.cfg > .venvs/lower-bounds.txt
	@$(MAKE) test VENV=.venvs/lower-bounds CONSTRAINTS=.venvs/lower-bounds.txt

.PHONY: clean
clean: ## remove everything that make and the tools made
	rm -rf .venv .venvs .types build dist *.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments -------------------------------------------------------------------------------------------
# A stamp per set of dependencies, each adding to the one before; a change of what they were made from remakes them.

$(bin)/python:
	@test -n "$(PYTHON)" || { echo "Needs Python >= 3.11 with venv; name it: make PYTHON=/path/to/it" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(inputs) | $(bin)/python
	@echo "Installing into $(VENV) ..."
	@$(pip) setuptools
	@$(editable) .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@$(editable) '.[test]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	@$(editable) '.[bench]'
	@touch $@

$(VENV)/.dev: $(VENV)/.bench
	@$(editable) '.[dev]'
	@touch $@

# The root is the package; type checkers, which cannot follow an editable install, find it by its name here.
.types/understudy:
	@mkdir -p .types && ln -s .. $@
