# make demo   install, then fine-tune the embedded lab under five targets and compare them
# make test   install with development extras, then the whole test suite
# make check  what CI runs: format, lint, types, import contracts, tests
# make verify the laws, parity with TRL, and speed and memory beside their targets

PYTHON ?= python3
BIN := .venv/bin
DEMO_OUT ?= runs/demo

.PHONY: demo test check lint verify clean

demo: .venv/installed
	$(BIN)/qtarget demo --out $(DEMO_OUT)

test: .venv/installed-dev
	$(BIN)/python -m pytest -n auto -q --disable-warnings

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint test

verify: .venv/installed-dev
	$(BIN)/python benchmarks/verify.py

clean:
	rm -rf .venv build dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing into .venv (a minute or two)..."
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]'
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
