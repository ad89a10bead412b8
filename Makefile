# Each target sets up what it needs by itself: Python 3.11 or newer, make and a package index are enough.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCK := requirements/airflow-3.3.txt
PORT ?= 8080
# .venv has the newest Airflow; each older one has an environment of its own.
OLDER := 2.11

# Asked only when the environment has to be made. ensurepip: some systems ship a Python that cannot make one.
FIND_PYTHON = for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
	&& echo $$python && break; done

.DEFAULT_GOAL := help
.PHONY: help setup demo ui test matrix lint format types build check lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+[-%a-z]*:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything in it (PYTHON=… names the Python to take)

$(READY): pyproject.toml $(LOCK)
	@python="$$($(FIND_PYTHON))"; \
	test -x $(BIN)/python || test -n "$$python" || { \
	echo "This needs Python 3.11 or newer with its venv module. Name one: make PYTHON=/path/to/python3"; exit 1; }; \
	echo "Setting up $(VENV) …"; \
	test -x $(BIN)/python || $$python -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints $(LOCK) --group dev --editable .
	@touch $@

demo: $(READY) ## a day at the support desk on real Airflow, told and checked
	@$(BIN)/python -m demo

ui: $(READY) ## the same world in Airflow's web interface, until Ctrl-C (PORT=8080)
	@$(BIN)/python -m demo.ui --port $(PORT)

test: $(READY) ## all tests (ARGS="-k export" chooses)
	@$(BIN)/pytest $(ARGS)

test-%: .matrix/%/.ready ## unit and integration tests on an older Airflow (make test-2.11)
	@.matrix/$*/bin/python -m pytest -p no:cacheprovider tests/unit tests/integration $(ARGS)

matrix: $(OLDER:%=test-%) test ## the tests on every version of Airflow that is pinned in requirements/

.PRECIOUS: .matrix/%/.ready
.matrix/%/.ready: requirements/airflow-%.txt pyproject.toml | $(READY)
	@echo "Setting up Airflow $* in .matrix/$* …"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .matrix/$*
	@$(BIN)/uv pip install --quiet --python .matrix/$*/bin/python --constraints $< --group test --editable .
	@touch $@

lint: $(READY) ## ruff: mistakes and layout
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: $(READY) ## let ruff lay out the code
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: $(READY) ## mypy
	@$(BIN)/mypy

build: $(READY) ## wheel and sdist in dist/
	@rm -rf dist
	@$(BIN)/python -m build --installer uv
	@$(BIN)/twine check --strict dist/*

check: lint types build demo test ## all of it, as CI does

lock: $(READY) ## choose new versions of all dependencies
	@for version in $(OLDER) 3.3; do \
	echo "apache-airflow==$$version.*" | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	--group dev --all-extras --constraints - --custom-compile-command 'make lock' \
	--output-file requirements/airflow-$$version.txt pyproject.toml; done

clean: ## remove what the other targets have made, except .venv
	@rm -rf .demo .matrix dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
