# The two commands to begin with: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUTPUT ?= demo-output

.DEFAULT_GOAL := help
.PHONY: help demo test lint typecheck bench lock clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "There is no $(PYTHON) here; tracemill needs Python 3.11 or newer. Try: make PYTHON=python3.12 demo"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tracemill needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 demo"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/.made
	@echo "Installing tracemill into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	@echo "Installing what the tests need ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.run  ## Install, then run the main job on the sample that ships with tracemill
	@$(BIN)/tracemill demo --workspace $(DEMO_OUTPUT)

test: $(VENV)/.dev  ## Lint, type-check and run every test
	@$(MAKE) --no-print-directory lint typecheck
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.dev  ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet src tests benches scripts

typecheck: $(VENV)/.dev  ## Check types, tests included
	@$(BIN)/mypy

bench: $(VENV)/.dev  ## Run the benchmarks and write benches/results
	@$(BIN)/python -m benches

lock: | $(VENV)/.made  ## Pin the newest versions that pyproject.toml allows
	@sh scripts/lock.sh $(PYTHON)

clean:  ## Remove the environment, caches and the demo's output
	rm -rf $(VENV) $(DEMO_OUTPUT) $(DEMO_OUTPUT)-[0-9]* .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
