# Everything here works on a machine that has only Python >= 3.11 and make: .venv is built when needed.

VENV := .venv
BIN := $(VENV)/bin
PIP_VERSION := 26.3
AXE_VERSION := 4.14.1
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --log $(VENV)/pip.log -c constraints.txt \
	--build-constraint constraints.txt
# NVIDIA's compiler has a folder of its own: installed beside JAX, it would be a device that JAX takes.
H100 := $(VENV)/h100
FAILED := { echo 'The installation failed: see above, and $(VENV)/pip.log for the whole story.' >&2; exit 1; }

# The interpreter that .venv is made with; `make test PYTHON=/path/to/python` chooses another.
PYTHON ?=
# Test processes: one a core, at least two and, for memory's sake, at most eight.
WORKERS ?= $(shell $(BIN)/python -c 'import os; \
	cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2; \
	print(min(8, max(2, cores)))')

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs docs-check wheel-check h100 axe clean moved

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.test  ## compare the gradients through routing on digits (three minutes on two cores)
	@$(BIN)/capsjax compare digits

test: $(VENV)/.test  ## run every test
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/.dev  ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyrefly check

format: $(VENV)/.dev  ## format the code, fix what ruff can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.docs  ## build the documentation, to read without network, into docs/_build/html
	@$(BIN)/python -m sphinx -E -W --keep-going -q -b html docs docs/_build/html
	@echo 'The documentation is at docs/_build/html/index.html'

docs-check: $(VENV)/.test  ## run the code of the documentation, follow its links
	@$(BIN)/python -m pytest tests/test_docs.py

wheel-check: $(VENV)/.dev  ## build the wheel, install it elsewhere, train from an empty folder
	@PIP_VERSION=$(PIP_VERSION) .ci/wheel

h100: $(H100)/.installed  ## count what compiled programs would do on an H100 (on Linux, without a card)
	@$(BIN)/python benchmarks/h100.py --check

axe:  ## fetch axe-core, by which a test judges the accessibility of reports (needs npm)
	@npm install --silent --no-save --no-package-lock axe-core@$(AXE_VERSION)

clean:  ## remove caches and builds; keeps .venv, runs and data
	@rm -rf build dist docs/_build .pytest_cache .ruff_cache .hypothesis .jax_cache ./*.egg-info
	@find capsjax tests experiments benchmarks docs -name __pycache__ -type d -prune \
		-exec rm -rf {} + 2>/dev/null || true

# A stamp holds the folder that it was made in: a copied or renamed checkout gets its own .venv.
ifneq ($(shell cat $(VENV)/.test 2>/dev/null),$(CURDIR))
$(VENV)/.test: moved
endif

$(VENV)/.test: pyproject.toml constraints.txt
	@PYTHON='$(PYTHON)' .ci/venv $(VENV)
	@echo 'Installing capsjax and its dependencies into $(VENV): once, about a minute ...'
	@$(PIP) install --quiet 'pip==$(PIP_VERSION)'
	@$(INSTALL) -e . --group test || $(FAILED)
	@pwd -P > $@

$(VENV)/.dev: $(VENV)/.test
	@$(INSTALL) --group dev || $(FAILED)
	@touch $@

$(H100)/.installed: $(VENV)/.test
	@echo 'Installing the compiler for GPUs into $(H100): once, 220 MB ...'
	@rm -rf $(H100)
	@$(INSTALL) --no-deps --target $(H100) \
		jax-cuda12-plugin jax-cuda12-pjrt nvidia-cuda-nvcc-cu12 || $(FAILED)
	@touch $@

$(VENV)/.docs: $(VENV)/.test
	@$(INSTALL) --group docs || $(FAILED)
	@touch $@
