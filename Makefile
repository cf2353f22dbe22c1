# make demo    a small IFF-Net from nothing: data, training, evaluation, pictures
# make test    lint and the whole test suite
# make docs    the site, in docs/_build/html
# Each makes its environment in .venv first. PYTHON=python3.12 chooses the interpreter,
# DETECTRON2=<pip requirement or path> a Detectron2 of your own.

PYTHON ?= python3
VENV ?= .venv
DETECTRON2 ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test test-slow test-fast lint format docs docs-links clean FORCE

setup: $(READY)

# A Detectron2 that is asked for by name is installed whatever is there.
$(READY): pyproject.toml constraints.txt dev/setup_env.py $(if $(DETECTRON2),FORCE)
	$(PYTHON) dev/setup_env.py --venv "$(VENV)" --detectron2 "$(DETECTRON2)"
	@touch $@

demo: $(READY)
	$(BIN)/iff-detectron2 demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A process per core with one thread each: most tests are too small for several threads.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# What takes hours: thousands of damaged files for each reader, a training killed at 20 moments.
test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist load --timeout 7200 -m endurance

test-fast: $(READY)
	$(BIN)/python -m pytest -m "not slow"

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A page, a link between pages or a docstring that is wrong ends it.
docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Asks for the addresses of other sites, too.
docs-links: docs
	$(BIN)/python -m sphinx -W --keep-going -q -b linkcheck docs docs/_build/links

clean:
	rm -rf output docs/_build docs/reference .pytest_cache .ruff_cache .mypy_cache
