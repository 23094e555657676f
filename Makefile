# Two commands do everything: `make sweep` and `make test`. Both make .venv first.
#   PYTHON=python3.12   the interpreter that .venv is made from
#   INSTALL=0           use what PYTHON already has; install nothing (no network needed)
#   ARGS="..."          more options for the sweep

PYTHON ?= python3
INSTALL ?= 1
ARGS ?=

ifeq ($(INSTALL),0)
BIN := env PYTHONPATH=$(CURDIR)/.links $(PYTHON) -m
SETUP := .links/attnbench
else
BIN := .venv/bin/python -m
SETUP := .venv/.installed
endif
RUN_ATTNBENCH := $(BIN) attnbench

.PHONY: setup sweep test test-all lint types unit gpu-test clean

setup: $(SETUP)

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "attnbench needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12" >&2; exit 2; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
