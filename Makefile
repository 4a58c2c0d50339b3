# Everything runs in .venv, made on demand from the system's Python (>= 3.11).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: setup demo test check bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml deploy/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mtlsproxy needs Python 3.11 or later; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/mtlsproxy demo $(ARGS)

# Most tests wait for sockets and processes: a few at once use the time. ARGS=tests/unit JOBS=0 for one after another.
JOBS ?= 3
test: setup
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile $(ARGS)

check: setup
	@$(BIN)/ruff check proxy tests
	@$(BIN)/ruff format --check proxy tests
	@$(BIN)/mypy
	@$(BIN)/lint-imports --config pyproject.toml
	@$(BIN)/mtlsproxy schema | diff - config/schema.json || { echo "config/schema.json has drifted: $(BIN)/mtlsproxy schema > config/schema.json" >&2; exit 1; }

# Beside nginx, HAProxy and Caddy on the same work; needs cc, libssl-dev and nginx. ARGS='--scenarios small,full'
BENCH ?= ../shared/bench/compare.py
bench: setup
	@test -f $(BENCH) || { echo "no benchmark at $(BENCH): say where it is with make bench BENCH=..." >&2; exit 2; }
	@$(BIN)/python $(BENCH) $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
