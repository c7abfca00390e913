# Set-up and the everyday commands. Needs Python 3.11+, Java 17+ and make; installs the rest into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help setup demo test test-slow lint dev serve bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(VENV)/.installed ## create .venv with uv and the locked dependencies

$(VENV)/.installed: pyproject.toml uv.lock setup.sh hatch_build.py $(wildcard scale_assets/contracts/native/*.[ch])
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh setup.sh
	@touch $@

demo: setup ## the whole pipeline on real data; ARGS="--until 2014-06-01", "--all", "--tiny"
	@$(BIN)/scale demo $(ARGS)

test: setup ## the fast tests, two files at a time
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-slow: setup ## the slow and the fault-injection tests (hours), and a thousand hostile inputs per format
	@$(BIN)/python -m pytest -m "slow or fault" $(ARGS)
	@$(BIN)/python -m pytest tests/contracts/test_paths_agree.py --hypothesis-profile nightly

lint: setup ## linters and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

dev: setup ## Dagster's UI on http://localhost:3000, with a persistent instance in .data/dagster
	@$(BIN)/scale dev

serve: setup ## the prediction server on http://127.0.0.1:8000
	@$(BIN)/scale serve $(ARGS)

bench: setup ## the figures of docs/results.md, but the models' (benchmarks.training); ARGS=--quick for a look
	@for each in orchestration ingest cdc pgoutput kafka collector; do \
		$(BIN)/python -m benchmarks.$$each $(ARGS) || exit 1; \
	done

clean: ## remove everything that runs wrote (not the environment)
	rm -rf .data
