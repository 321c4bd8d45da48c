# Two commands for a newcomer: `make demo` and `make test`. Both work on a machine with Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test lint types layers unit clean
demo: $(STAMP)  ## the main job on the built-in data: folds, strengths, verdict, model, report
	$(BIN)/segdecay tune digits --out runs/digits

test: lint types layers unit  ## everything that must hold

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
types: $(STAMP)
	$(BIN)/mypy
layers: $(STAMP)
	$(BIN)/lint-imports
unit: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal
clean:
	rm -rf $(VENV) runs
