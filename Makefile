# `make demo` and `make test` need git, make, python3 >= 3.11 and a package index, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint types docs bench study check clean

demo: $(READY)
	$(BIN)/assay demo

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m pytest --doctest-modules src/assay --ignore=src/assay/cli -m "not slow" --durations=5

check: lint types test docs

bench: $(READY)
	for file in benchmarks/[!_]*.py; do $(BIN)/python $$file || exit 1; done

study: $(READY)
	$(BIN)/python -m pytest -m slow
	$(BIN)/assay study run studies/dataset-inference.toml --preset small --out runs/di
	$(BIN)/assay report runs/di
	$(BIN)/assay study run studies/watermarks.toml --preset small --out runs/wm
	$(BIN)/assay report runs/wm
	$(BIN)/python studies/entangled/keys.py --task replica --first 40 --keys 10 --out runs/entangled

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Assay needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(READY)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
