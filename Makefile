# `make reproduce` runs the main job, `make test` the tests; both set up .venv first if it is not there.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup reproduce test lint benchmark book pdf colab serve clean

help:  ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(READY)  ## Make .venv with the pinned requirements and this package

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MSUN Lite needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

reproduce: $(READY)  ## Train Vanilla, MST and MSUN on drawn scenes; table, figure and report in runs/reproduce-quick
	$(BIN)/python -m msun_lite.reproduce --preset quick

test: $(READY) lint  ## Run the tests, one process a core
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(READY)  ## Check style, and that imports run one way
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

benchmark: $(READY)  ## Measure the speed claims
	$(BIN)/python benchmarks/scenes.py
	$(BIN)/python benchmarks/routing.py
	$(BIN)/python benchmarks/cka.py
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/own_sizes.py

book: $(READY)  ## Build the book into _build/html: every chapter runs, warnings are errors
	$(BIN)/python tools/book.py

pdf: book  ## Print the book into _build/html/msun-lite.pdf (needs Chromium)
	$(BIN)/python -m tools.pdf

colab: $(READY)  ## Run every chapter in an environment like Colab's (makes it first; needs python3.12)
	$(BIN)/python tools/like_colab.py

serve: book  ## Show the book at 127.0.0.1:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

clean:  ## Remove .venv, the built book and caches, keep runs and data
	rm -rf .venv .venv-colab .pytest_cache .ruff_cache build _build *.egg-info
