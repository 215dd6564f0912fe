# All targets work on a fresh machine with Python 3.11 or newer, git and make: they make what they need.
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

FAST := python -m pytest -q -n auto --dist worksteal -m "not slow"

.PHONY: repro test test-fast check format docs help

help:
	@echo "make repro      environment + the whole pipeline + its results"
	@echo "make test       environment + every check and test"
	@echo "make test-fast  the tests that need no process, model or browser: one minute"
	@echo "make docs       the documentation as a site, in site/"
	@echo "make format     formats the code"

repro: $(VENV)/runtime
	dvc repro
	python -m pipeline summary

# Fast tests share the cores; the others run alone, since two processes with torch slow each other down.
test: check
	$(FAST)
	python -m pytest -m slow --durations=10

test-fast: $(VENV)/development
	$(FAST)

check: $(VENV)/development
	ruff check .
	ruff format --check .
	mypy

format: $(VENV)/development
	ruff check --fix .
	ruff format .

docs: $(VENV)/development
	mkdocs build --strict --quiet
	@echo "site/index.html written"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime: requirements.lock | $(VENV)/bin/python
	python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	touch $@

$(VENV)/development: requirements-dev.lock $(VENV)/runtime
	python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-dev.lock
	touch $@
