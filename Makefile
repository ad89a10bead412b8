# Each target sets up what it needs by itself: Python 3.11 or newer, make and a package index are enough.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCK := requirements/airflow-3.3.txt
PORT ?= 8080
# .venv has the newest Airflow; each older one has an environment of its own.
OLDER := 2.11 3.0 3.1 3.2
# The newest Airflow on newer Pythons.
PYTHONS := 3.12 3.13
# Airflows whose official constraints are tested with the full suite, on Python 3.12.
CONSTRAINED := 2.11.0 3.0.6 3.3.1

# $(call make_environment,NAME,PYTHON,ARGUMENTS): an environment of its own, from what uv installs. Its bytecode is
# compiled once: each process of Airflow would do it again otherwise.
make_environment = set -e; echo "Setting up .matrix/$1 …"; \
	$(BIN)/uv venv --quiet --allow-existing --python $2 .matrix/$1; \
	$(BIN)/uv pip install --quiet --compile-bytecode --python .matrix/$1/bin/python $3 --editable .; \
	touch $@
# $(call python,3.12): where it is, with pyenv too; else uv looks for it, and downloads it.
python = $(or $(firstword $(wildcard $(HOME)/.pyenv/versions/$1.*/bin/python$1)),$1)

# Asked only when the environment has to be made. ensurepip: some systems ship a Python that cannot make one.
# Airflow 2.11 and 3.0 know no Python after 3.12.
FIND_PYTHON = for python in $(PYTHON) python3.11 python3.12 python3 python3.13 python3.14; do \
	$$python -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
	&& echo $$python && break; done

.DEFAULT_GOAL := help
# Some images forbid Python to keep bytecode. Each process of Airflow would then compile all of it.
export PYTHONDONTWRITEBYTECODE :=
.PHONY: help setup demo ui test test-all test-system test-scheduler matrix constraints release bench chaos distributed readers mutants coverage lint format types docs build check lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+[-%a-z]*:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything in it (PYTHON=… names the Python to take)

$(READY): pyproject.toml $(LOCK)
	@python="$$($(FIND_PYTHON))"; \
	test -x $(BIN)/python || test -n "$$python" || { \
	echo "This needs Python 3.11 or newer with its venv module. Name one: make PYTHON=/path/to/python3"; exit 1; }; \
	echo "Setting up $(VENV): about a minute, the first time only …"; \
	test -x $(BIN)/python || $$python -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraints $(LOCK) --group dev --editable .
	@touch $@

demo: $(READY) ## a lake follows a shop through a day, on real Airflow, printed and checked
	@$(BIN)/python -m demo

ui: $(READY) ## the same in Airflow's web interface, until Ctrl-C (PORT=8080)
	@$(BIN)/python -m demo.ui --port $(PORT)

# Half of it is waiting, for windows of quota above all: three processes for each of two cores.
PYTEST = -m pytest -n 6 --dist worksteal
# The tests of a file share an Airflow.
BY_FILE = -m pytest -n 4 --dist loadfile --no-loadscope-reorder
ALL_TESTS := tests/system tests/dags tests/integration tests/unit

test: $(READY) ## unit and integration tests, and each operator and sensor in a DAG: minutes (ARGS="-k export" chooses)
	@$(BIN)/python $(PYTEST) $(ARGS)

# tests/conftest.py and tests/drawing.py say what is more here.
test-all: $(READY) ## the same and all other DAGs, and searches that draw more examples: what CI runs
	@HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-all} $(MAKE) --no-print-directory test PYTEST="$(BY_FILE)"

test-system: $(READY) ## tests with a scheduler, a triggerer and an API server, and of what people install
	@$(BIN)/python $(BY_FILE) $(or $(ARGS),tests/system)

test-scheduler: $(READY) ## an export and a sensor defer and end, under a real scheduler and triggerer
	@$(BIN)/python -m pytest tests/system/test_every_airflow.py

# test-2.11: an older Airflow · test-lowest: the oldest of all dependencies · test-python3.13: a newer Python ·
# test-constraints-3.0.6: all that an official constraints file pins
test-%: .matrix/%/.ready ## all tests in one of the environments of `make matrix` (make test-2.11)
	@HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-all} .matrix/$*/bin/python $(BY_FILE) -p no:cacheprovider $(or $(ARGS),$(ALL_TESTS))

# The table in docs/versions.md.
MATRIX := $(OLDER) lowest $(PYTHONS:%=python%) $(CONSTRAINED:%=constraints-%)
matrix: constraints $(OLDER:%=install-%) install-3.3 test-all test-system $(MATRIX:%=test-%) ## all tests on every Airflow, Python and set of pins

bench: $(READY) ## exports by this provider and by others, side by side, into docs/benchmarks.md (ARGS="--full")
	@$(BIN)/python -m benchmarks.compare $(ARGS)

chaos: $(READY) ## random scenarios where things break, on real Airflow (MINUTES=10 SEED=1 SCENARIOS=1)
	@$(BIN)/python -m chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(SCENARIOS),--scenarios $(SCENARIOS))

# Each change is tried by itself, so tests that draw examples draw few.
mutants: .matrix/quality/.ready ## change the client's pure code in every small way: do its unit tests notice? (ARGS="*quota*")
	@HYPOTHESIS_PROFILE=few .matrix/quality/bin/mutmut run $(ARGS)
	@HYPOTHESIS_PROFILE=few .matrix/quality/bin/mutmut results | { grep -v "not checked" || true; }

coverage: .matrix/quality/.ready ## lines and branches that the unit and integration tests reach (ARGS=tests/unit)
	@.matrix/quality/bin/python $(PYTEST) -p no:cacheprovider --cov --cov-report=term-missing:skip-covered \
	$(or $(ARGS),tests/unit tests/integration)

.matrix/quality/.ready: requirements/airflow-3.3.txt pyproject.toml | $(READY)
	@$(call make_environment,quality,$(BIN)/python,--constraints $< --group test --group quality)

readers: .matrix/readers/.ready ## what Spark, pandas, polars, Java, PHP, Node, Perl … make of exported files (Debian, Ubuntu)
	@for program in java php node perl gzip zstd; do command -v $$program >/dev/null || missing=1; done; \
	test -z "$$missing" || { sudo=$$(test "$$(id -u)" = 0 || echo sudo); $$sudo apt-get update --quiet && \
	$$sudo apt-get install --quiet --yes --no-install-recommends \
	default-jdk-headless php-cli nodejs perl gzip zstd; }
	@.matrix/readers/bin/python -m pytest -p no:cacheprovider tests/integration/test_readers.py $(ARGS)

.matrix/readers/.ready: requirements/airflow-3.3.txt pyproject.toml | $(READY)
	@$(call make_environment,readers,$(BIN)/python,--constraints $< --group test --group readers)

# RUNLEVEL keeps Debian from starting services of its own.
distributed: .matrix/distributed/.ready ## thirty shops on CeleryExecutor with two workers, PostgreSQL and Redis (Debian, Ubuntu)
	@test -x "$$(command -v redis-server)" -a -d /usr/lib/postgresql || { \
	sudo=$$(test "$$(id -u)" = 0 || echo sudo); $$sudo apt-get update --quiet && \
	$$sudo env RUNLEVEL=1 apt-get install --quiet --yes --no-install-recommends postgresql redis-server; }
	@.matrix/distributed/bin/python -m pytest -p no:cacheprovider tests/distributed $(ARGS)

.matrix/distributed/.ready: requirements/airflow-3.3.txt requirements/distributed.txt pyproject.toml | $(READY)
	@$(call make_environment,distributed,$(BIN)/python,--constraints $< --group test \
	--requirements requirements/distributed.txt)

.PRECIOUS: .matrix/%/.ready .matrix/python%/.ready .matrix/constraints-%/.ready
.matrix/%/.ready: requirements/airflow-%.txt pyproject.toml | $(READY)
	@$(call make_environment,$*,$(BIN)/python,--constraints $< --group test)

.matrix/python%/.ready: requirements/airflow-3.3.txt pyproject.toml | $(READY)
	@$(call make_environment,python$*,$(call python,$*),--constraints $< --group test)

empty :=
space := $(empty) $(empty)
# The pins of Airflow, its providers and our dependencies; the tools that test them are ours.
TEST_TOOLS := duckdb moto execnet hypothesis py-partiql-parser pytest pytest-timeout pytest-xdist responses \
	sqlglot
.matrix/constraints-%/.ready: requirements/constraints/airflow-%-python3.12.txt pyproject.toml | $(READY)
	@mkdir -p $(@D)
	@grep -vE '^($(subst $(space),|,$(TEST_TOOLS)))==' $< > $(@D)/constraints.txt
	@$(call make_environment,constraints-$*,$(call python,3.12),--constraints $(@D)/constraints.txt \
	--group test apache-airflow==$*)

lint: $(READY) ## ruff: mistakes and layout; codespell: spelling; zizmor: weaknesses of the workflows
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/codespell *.md airflow_provider_lightspeed benchmarks chaos demo docs example_dags tools
	@$(BIN)/zizmor --offline --quiet .github

format: $(READY) ## let ruff lay out the code
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: $(READY) ## mypy
	@$(BIN)/mypy

docs: $(READY) ## the documentation in site/; a broken link or reference is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

build: $(READY) ## wheel and sdist in dist/
	@rm -rf dist
	@$(BIN)/python -m build --installer uv
	@$(BIN)/twine check --strict dist/*
	@$(BIN)/check-wheel-contents dist/*.whl
	@! tar tzf dist/*.tar.gz | grep -vE '^[^/]*/(airflow_provider_lightspeed/.*|[A-Z]+\.md|LICENSE|PKG-INFO|pyproject\.toml|\.gitignore)$$'

constraints: build ## the wheel can be installed with each official constraints file
	@$(BIN)/python -m tools.constraints dist/*.whl

install-%: build ## the wheel, alone, beside an older Airflow: it is found, and its modules load (make install-2.11)
	@$(BIN)/python -m tools.bare_install $* dist/*.whl

release: build ## wheel and sdist, once version, changelog and tag agree
	@$(BIN)/python -m tools.release

check: lint types docs build constraints $(OLDER:%=install-%) install-3.3 demo test-all test-scheduler ## what CI runs

check-all: check test-system test-2.11 ## CI's checks, a whole Airflow with its scheduler, and Airflow 2.11: before a release

lock: $(READY) ## choose new versions of all dependencies
	@for pins in $(OLDER:%=%/test) 3.3/dev; do version=$${pins%/*}; \
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	--group $${pins#*/} --all-extras --constraints requirements/airflow-$$version.in --custom-compile-command 'make lock' \
	--output-file requirements/airflow-$$version.txt pyproject.toml; done
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --resolution lowest-direct \
	--group test --all-extras --constraints requirements/airflow-lowest.in --custom-compile-command 'make lock' \
	--output-file requirements/airflow-lowest.txt pyproject.toml

clean: ## remove what the other targets have made, except .venv
	@rm -rf .bench .chaos .demo .matrix mutants dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
