# The README's commands. `make` alone lists them. Every target sets up what it needs in .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
READY   = $(VENV)/.ready

help:   ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(READY): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)

install: $(READY)   ## make .venv with ifrp-bench and the tools of its tests

demo: $(READY)   ## rendered faces to pairs, recover people with the shipped weights, see a training learn
	$(BIN)/ifrp-bench demo

test: $(READY)   ## run the tests (offline, CPU), one process a core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(READY)   ## flake8, mypy, and a clean set of packages
	$(BIN)/python -m flake8 ifrp_bench tests benchmarks
	$(BIN)/python -m mypy
	$(BIN)/python -m pip check

bench: $(READY)   ## print the speed ratios of this machine (on data/demo, which `make demo` makes)
	$(BIN)/ifrp-bench bench

.PHONY: help install demo test lint bench
