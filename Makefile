# Start with `make demo` and `make test`. Both need Python 3.11 or newer, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/runtime-installed
DEV := $(VENV)/dev-installed
RELEASE := build/release
DOCS_VENV := build/docs-venv
DOCS := $(DOCS_VENV)/installed
# one epoch is not enough to tell, which is exit code 1; the model is made on request
SHORT_SEARCH := tune digits --epochs 1 --folds 3 --set 'search.grid=[0,1]' --refit anyway

.PHONY: demo test lint types layers browser unit soak docs pages dist release-check clean
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

pages: $(DEV)  ## docs/commands.md, docs/glossary.md and the schemas, from the code
	$(BIN)/python tools/pages.py
soak: $(DEV)  ## the long tests that `make test` leaves out
	$(BIN)/pytest -n 0 -m soak
docs: $(DOCS)  ## the site in build/site, from an environment without torch; a warning or a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --quiet
$(DOCS): pyproject.toml
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(DOCS_VENV)/bin/python -m pip install --quiet --group docs
	touch $@

release-check: dist  ## a short search with the wheel alone, in an empty environment
	rm -rf $(RELEASE)/venv $(RELEASE)/run
	$(PYTHON) -m venv $(RELEASE)/venv
	$(RELEASE)/venv/bin/python -m pip install --quiet $(RELEASE)/dist/*.whl
	cd $(RELEASE) && { venv/bin/segdecay $(SHORT_SEARCH) --out run || test $$? -eq 1; }
	test -s $(RELEASE)/run/report.html -a -s $(RELEASE)/run/model/model.safetensors
dist:  ## sdist and wheel in build/release/dist, both checked
	rm -rf $(RELEASE)/tools $(RELEASE)/dist
	$(PYTHON) -m venv $(RELEASE)/tools
	$(RELEASE)/tools/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(RELEASE)/tools/bin/python -m pip install --quiet --group release
	$(RELEASE)/tools/bin/python -m build --outdir $(RELEASE)/dist .
	$(RELEASE)/tools/bin/twine check --strict $(RELEASE)/dist/*
	$(RELEASE)/tools/bin/check-wheel-contents $(RELEASE)/dist/*.whl
clean:
	rm -rf $(VENV) runs build
