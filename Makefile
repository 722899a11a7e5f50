# Every target sets up what it needs: a virtual environment in .venv with the pinned versions of constraints.txt.
# Needed beforehand: Python 3.11 or newer, make, and a package index.
#
#   PYTHON=python3.12            the Python that the environment is made from; the newest fitting one by default
#   TORCH_INDEX_URL=https://...  where else torch is looked for. Empty: on Linux without an NVIDIA GPU it is PyTorch's
#                                own index of CPU builds, if that can be reached; the usual index has the CUDA build

TORCH_INDEX_URL ?=
CPU_BUILDS := https://download.pytorch.org/whl/cpu
BIN := .venv/bin
READY := .venv/.ready
DEMO := runs/demo

.PHONY: help demo test lint format bench docs clean
.DEFAULT_GOAL := help

help:  ## what can be made
	@sed -n 's/^\([a-z]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(READY)  ## one sentence becomes a model in runs/demo: no key, no GPU, 2 to 12 minutes on 2 cores
	@$(BIN)/prompt2model demo --out $(DEMO)

test: $(READY)  ## the tests, on all cores; SLOW=1 (or CI=true) adds those that train and serve real models
	@$(BIN)/pytest -n auto --maxprocesses 8 --dist loadfile

lint: $(READY)  ## formatting, rules, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(READY)  ## put the code into shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY)  ## the benchmarks that need no data, one after the other; the others say in their first lines how
	@set -e; for file in $$(grep -LE 'DATA|TRAIN' benchmarks/*.py); do echo "== $$file"; $(BIN)/python $$file; done

docs: $(READY)  ## docs/help.md, from what --help prints
	@$(BIN)/python docs/make_help.py

clean:  ## remove the environment and what tools left; runs/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment is made again when what it is made from has changed.
$(READY): pyproject.toml constraints.txt
	@python=$$(sh -c '$(FIND_PYTHON)') && echo "Setting up .venv with $$python (once; a few minutes)" && \
	  { test -x $(BIN)/python || "$$python" -m venv .venv; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt pip
	@$(FIND_TORCH); $(BIN)/python -m pip install -q -c constraints.txt --build-constraint constraints.txt \
	  $${index:+--extra-index-url $$index} -e . --group dev
	@touch $@

# The first Python that is new enough and can make environments; PYTHON alone when it is given.
define FIND_PYTHON
for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python); do \
  "$$python" -c "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))" 2>/dev/null \
    && { echo "$$python"; exit 0; }; \
done; \
echo "No Python 3.11 or newer with venv was found (Debian: apt install python3-venv). Name one: make PYTHON=..." >&2; \
exit 1
endef

# Sets the shell variable `index`: empty, or where the CPU build of torch is.
define FIND_TORCH
index="$(TORCH_INDEX_URL)"; \
if [ -z "$$index" ] && [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
  $(BIN)/python -c "import urllib.request as r; r.urlopen('$(CPU_BUILDS)/torch/', timeout=5)" 2>/dev/null \
    && index=$(CPU_BUILDS); \
fi
endef
