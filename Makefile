# make preview: a model from this machine's own text, start to end. make test: everything that must hold.
SHELL := /bin/bash -o pipefail
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check install --progress-bar off -c constraints.txt
SHOW := { grep --line-buffered -E '^(Collecting|Installing|Successfully)' || true; }
NEEDS := pyproject.toml constraints.txt

LOCK := build/lock

# where a real PostgreSQL is, which the tests of the gateway's store start themselves
POSTGRES := { ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null || command -v initdb; }

.PHONY: preview test lint lock soak bench clean postgres
.DELETE_ON_ERROR:

preview: $(VENV)/.installed
	$(VENV)/bin/inhouse make preview

# OMP_NUM_THREADS: the tests run in two processes on two cores
test: $(VENV)/.installed-dev lint postgres
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 --dist worksteal --durations 10

# from the system's packages, where we may install them; else those tests are skipped, with a sentence
postgres:
	@$(POSTGRES) >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing PostgreSQL for the tests of the gateway's store"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql; } >/dev/null 2>&1 \
	  || echo "PostgreSQL cannot be installed here: the tests that need it are skipped"; fi

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# pins anew what the two commands install: the newest that pyproject.toml allows, without what only a CUDA build needs
lock: | $(VENV)/bin/python
	rm -rf $(LOCK)
	$(VENV)/bin/python -m venv $(LOCK)
	$(LOCK)/bin/python -m pip --disable-pip-version-check install --quiet --progress-bar off -e '.[dev]'
	{ grep '^#' constraints.txt; \
	  $(LOCK)/bin/python -m pip --disable-pip-version-check freeze --all --exclude-editable \
	  | grep -Ev '^(#|pip==|nvidia-|cuda-|triton)' | sed -E 's/\+[a-z0-9.]+$$//'; } > constraints.txt.new
	mv constraints.txt.new constraints.txt
	rm -rf $(LOCK)

# what takes longer than a test may
soak: $(VENV)/.installed-dev
	$(VENV)/bin/python bench/kill.py --kills 20
	$(VENV)/bin/python bench/soak.py --tries 20 --kills 200 --storm 300 --mean 3

bench: $(VENV)/.installed-bench
	@ls bench/*.py

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@for python in python3.14 python3.13 python3.12 python3.11 python3; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "setting up $(VENV) with $$($$python --version)"; exec $$python -m venv $(VENV); fi; \
	done; echo "inhouse needs Python 3.11 or newer on the PATH (with its venv module); found none" >&2; exit 1

$(VENV)/.installed: $(NEEDS) | $(VENV)/bin/python
	@echo "installing inhouse and what it needs (minutes the first time: torch is large)"
	@$(PIP) -e . | $(SHOW)
	@touch $@

$(VENV)/.installed-%: $(NEEDS) | $(VENV)/bin/python
	@echo "installing inhouse with its $* extra"
	@$(PIP) -e '.[$*]' | $(SHOW)
	@touch $@ $(VENV)/.installed
