# Start with `make demo` and `make test`. Both need Python 3.11 or newer, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/runtime-installed
DEV := $(VENV)/dev-installed
RELEASE := build/release
SHORT_SEARCH := tune digits --epochs 1 --folds 3 --set 'search.grid=[0,1]'

.PHONY: demo test lint types layers browser unit soak release-check clean
demo: $(RUNTIME)  ## a search on the built-in data: folds, strengths, verdict, model, report
	$(BIN)/segdecay tune digits --out runs/digits

test: lint types layers unit  ## all checks and tests

$(RUNTIME): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	touch $@
$(DEV): $(RUNTIME)  ## with linters, tests and other trainers
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
types: $(DEV)
	$(BIN)/mypy
layers: $(DEV)
	$(BIN)/lint-imports
browser: $(DEV)  ## a Chromium for the tests of pages, which fail without one
	$(BIN)/python tests/helpers/browser.py
unit: $(DEV) browser
	$(BIN)/pytest -n 2 --dist worksteal

soak: $(DEV)  ## the long tests that `make test` leaves out
	$(BIN)/pytest -n 0 -m soak
release-check: $(RUNTIME)  ## a short search with the wheel alone, in an empty environment
	rm -rf $(RELEASE)
	$(PYTHON) -m venv $(RELEASE)/venv
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(RELEASE) .
	$(RELEASE)/venv/bin/python -m pip install --quiet $(RELEASE)/*.whl
	cd $(RELEASE) && venv/bin/segdecay $(SHORT_SEARCH) --out run && test -s run/report.html -a -s run/model/model.safetensors
clean:
	rm -rf $(VENV) runs build
