# What a user types. Works with GNU make 3.81, as macOS ships it.
# Everything is installed into .venv, in the versions that constraints/ lists for this platform.

PLATFORM := $(shell uname -sm | sed -e 's/^Darwin /macos-/' -e 's/^Linux /linux-/' | tr ' ' -)
CONSTRAINTS := constraints/$(PLATFORM).txt
BIN := .venv/bin
COMMA := ,
LINE ?= documents
NAMES ?=
# What is installed beside MedVL. On a Mac the engine mlx is; elsewhere its tests say that it is not: make test EXTRAS=dev,mlx in a new .venv.
EXTRAS ?= $(if $(findstring macos,$(PLATFORM)),dev$(COMMA)mlx,dev)
# A process per core, four at most: each loads torch. The tests of one file share what it sets up, and stay together.
# One thread each, and memory kept instead of given back and taken again (docs/log.md).
PYTEST := OMP_NUM_THREADS=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=268435456 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

.PHONY: help install demo ui serve test slow lint soak bench clean-venv

help:
	@echo "make demo        install, run the whole graph on the embedded data, print the leaderboard"
	@echo "make test        install, lint, check types and walls, run the tests"
	@echo "make ui          install, open the graph: dg dev -w workspace.yaml"
	@echo "make serve       install, serve what was promoted on http://127.0.0.1:8000 (make serve LINE=documents)"
	@echo "make slow        the tests that start real processes or train: before a change lands"
	@echo "make soak        the tests that take many minutes: before a release"
	@echo "make bench       measure speed and memory, one script after the other (make bench NAMES='intervals labeler_speed')"
	@echo "make lint        what 'make test' checks before the tests"
	@echo "make install     only .venv"
	@echo "make clean-venv  remove .venv"

install: .venv/installed

# A stamp, newer than what it was made from: a second make installs nothing.
.venv/installed: pyproject.toml $(CONSTRAINTS)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		python=$$(sh scripts/find_python.sh) && \
		echo "installing MedVL into .venv with $$python: once, for a few minutes" && \
		$$python -m venv --clear .venv; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c $(CONSTRAINTS) -e '.[$(EXTRAS)]'
	@touch $@

constraints/%.txt:
	@echo "MedVL has no versions for this platform ($(PLATFORM)); it has: $$(ls constraints)." >&2; exit 1

demo: install
	@$(BIN)/python -m medvl_assets.demo

ui: install
	@home=$$($(BIN)/python -m medvl_assets.instance) && DAGSTER_HOME="$$home" $(BIN)/dg dev -w workspace.yaml

serve: install
	@$(BIN)/medvl serve $(LINE)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/typos
	$(BIN)/hadolint Dockerfile

test: lint
	$(PYTEST)

slow: install
	$(PYTEST) -m slow

soak: install
	$(BIN)/python -m pytest -m soak

bench: install
	@$(BIN)/python scripts/bench.py $(NAMES)

clean-venv:
	rm -rf .venv
