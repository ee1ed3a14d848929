# Everything a newcomer or CI needs; each target sets up what it uses in .venv (nothing is installed by hand).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TESTARGS ?=
# One BLAS thread: bits are reproducible and the two test workers do not fight over the cores.
export OPENBLAS_NUM_THREADS = 1
export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1

.PHONY: setup demo test guards lint types docs check clean

setup: $(STAMP)

$(STAMP): pyproject.toml setup.py constraints.txt $(wildcard solvers/native/*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	$(BIN)/python .ci/link_types.py
	touch $@

demo: setup
	$(BIN)/crosswind run --data sim --out crosswind-out/demo

test: setup
	$(BIN)/python -m pytest -n 2 $(TESTARGS)

# Guard and ledger code: every branch is run by its own tests, or this fails.
guards: setup
	$(BIN)/python -m coverage run --rcfile=.ci/guards.ini -m pytest -m guard tests/hedge tests/replay tests/roll
	$(BIN)/python -m coverage report --rcfile=.ci/guards.ini

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy -p crosswind

docs: setup
	$(BIN)/mkdocs build --strict --site-dir site

check: lint types guards test

clean:
	rm -rf $(VENV) .typing site build *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache crosswind-out
