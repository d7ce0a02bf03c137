# Needs make and Python 3.11 to 3.13; everything else is installed into .venv by the first target that wants it.
PYTHON ?= python3
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test lint

# What .venv was made from. The stamp holding it is written last, so a set-up killed half-way has none.
define FINGERPRINT
import hashlib, os, pathlib, sys
if not (3, 11) <= sys.version_info < (3, 14):
    sys.exit(f"Python 3.11, 3.12 or 3.13 is needed, this is {sys.version.split()[0]}: "
             "name another one, as in `make setup PYTHON=python3.12`.")
files = [pathlib.Path(name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
print(hashlib.sha256(b"\0".join([*files, sys.version.encode(), os.getcwd().encode()])).hexdigest())
endef
export FINGERPRINT

help:
	@echo 'make setup   install into .venv what pyproject.toml and constraints.txt say (the others do it too)'
	@echo 'make demo    fit and compare a small model on both engines, report in demo/'
	@echo 'make test    run the tests'
	@echo 'make lint    ruff, pyright, import-linter'

setup:
	@command -v $(PYTHON) >/dev/null || { echo '$(PYTHON) is not there: install Python 3.11, 3.12 or 3.13.' >&2; exit 1; }
	@wanted=$$($(PYTHON) -c "$$FINGERPRINT") || exit 1; \
	if [ "$$(cat .venv/.ready 2>/dev/null)" = "$$wanted" ]; then exit 0; fi; \
	set -e; rm -f .venv/.ready; \
	$(PYTHON) -m venv --clear .venv; \
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	  .venv/bin/python -m pip install --disable-pip-version-check -q -e '.[pyro,dev]'; \
	echo "$$wanted" > .venv/.ready

demo: setup
	@.venv/bin/python -m inference.demo --out demo

# Of the tests' time a third and more is XLA's back end optimising programs that then run for milliseconds.
test: setup
	@PYTHONHASHSEED=0 OMP_NUM_THREADS=1 XLA_FLAGS=--xla_backend_optimization_level=0 \
	  .venv/bin/python -m pytest -q -n 2 --dist loadfile

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/pyright
	@.venv/bin/lint-imports
