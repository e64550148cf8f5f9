# Everything a developer or a first reader needs; `make` alone prints the list. Nothing but a Python 3.11 to 3.13 with
# its venv module, libgomp1 and make must be there: the first target that runs makes .venv and says what is missing.
#
#   PYTHON=python3.13    the interpreter to make .venv with (default: the first suitable one)
#   ARGS="-k spool -x"   passed on to pytest, the demo, `billing up` or the benchmark
#   ONCE=1               the demo ends after its checks, with their result as exit code
#   DATA=1               `make clean` removes the data in .billing too

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PYTHON

BIN := .venv/bin
# Tests wait for processes much of the time: one more at once than there are cores, and no more than eight.
JOBS ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 8 ? cores + 1 : 8)))

.PHONY: help setup demo up test check bench lock clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

demo: setup ## real llama.cpp, Postgres and Valkey, real traffic, to an invoice; serves until Ctrl-C (ONCE=1: checks and ends)
	@$(BIN)/billing demo $(if $(ONCE),--once) $(ARGS)

up: setup ## the service on this machine, data in .billing
	@$(BIN)/billing up $(ARGS)

test: setup ## all tests, on every core
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

check: setup ## linters, formatter, types and the architecture tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q -n $(JOBS) tests/architecture

bench: setup ## CPU per request and per streamed chunk, beside nginx
	@$(BIN)/python -m bench $(ARGS)

setup: ## make .venv from requirements.lock (every target above does)
	@tools/setup.sh

lock: ## resolve pyproject.toml into the hash-locked requirements files (UPGRADE=1: newest versions)
	@tools/lock.sh

clean: ## remove .venv and caches (DATA=1: the data in .billing too)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache build dist *.egg-info
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
	@$(if $(DATA),rm -rf .billing)
