# Two commands do everything: `make sweep` and `make test`. Both make .venv first.
#
#   PYTHON=python3.12   the interpreter that .venv is made from
#   INSTALL=0           use what PYTHON already has and install nothing
#   ARGS="..."          more options for the sweep: make sweep ARGS="--preset smoke"
#   JOBS=2              processes that run the tests

PYTHON ?= python3
INSTALL ?= 1
ARGS ?=
JOBS ?= 2

# Python runs with the safe path: the checkout's own folder `kernels` must never be
# found in place of the package of that name.
export PYTHONSAFEPATH = 1

ifeq ($(INSTALL),0)
READY := .links/.made
RUN := PYTHONPATH=$(CURDIR)/.links $(PYTHON) -m
else
READY := .venv/.installed
RUN := .venv/bin/python -m
endif

.PHONY: setup sweep test test-all lint types unit kernels kernels-full kernels-tritons cpu-speed \
  gpu-test clean

setup: $(READY)

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "attnbench needs Python 3.11 or newer; try: make PYTHON=python3.12" >&2; exit 2; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]'
	.venv/bin/python -m compileall -q attnbench kernels profiles
	touch $@

# What the package-dir mapping of pyproject.toml says, as links: no installation needed.
.links/.made: pyproject.toml Makefile
	rm -rf .links && mkdir -p .links/attnbench
	ln -s $(CURDIR)/attnbench/* $(CURDIR)/kernels $(CURDIR)/profiles .links/attnbench/
	touch $@

sweep: $(READY)
	$(RUN) attnbench sweep $(ARGS)

test: lint types unit kernels

lint: $(READY)
	$(RUN) ruff format --check .
	$(RUN) ruff check .

types: $(READY)
	$(RUN) mypy
	$(RUN) mypy kernels profiles

unit: $(READY)
	OMP_NUM_THREADS=1 $(RUN) pytest -n $(JOBS) -m "not slow and not gpu"

test-all: lint types
	$(RUN) pytest -m "not gpu"

# What sparse and linear attention gain on this CPU, held against what they should.
cpu-speed: $(READY)
	$(RUN) attnbench sweep --preset cpu-speed --device cpu --resume --run-dir runs/cpu-speed
	$(filter-out -m,$(RUN)) benchmarks/cpu_speed.py runs/cpu-speed

# What the compiler makes of the shipped kernels, held to kernels/budgets.json; no GPU. Exit 3:
# there is no Triton for this platform. Exit 4, with INSTALL=0: PYTHON has another Triton than
# the pinned one, of which the budgets are. Both say so.
kernels: $(READY)
	$(RUN) attnbench kernels check || \
	  { code=$$?; test $$code = 3 || test $(INSTALL)$$code = 04; }

# Every target and set of features: half an hour of two cores, the first time.
kernels-full: $(READY)
	$(RUN) attnbench kernels check --full

# Every family with four releases of Triton, side by side, as in docs/kernels_tables.md.
TRITONS ?= 3.6.0 3.7.1 3.8.0 3.9.0
kernels-tritons: $(READY)
	$(RUN) attnbench.aot.releases --folder build/tritons $(TRITONS) $(ARGS)

gpu-test: $(READY)
	$(RUN) pytest -m gpu

clean:
	rm -rf .venv .links build *.egg-info
