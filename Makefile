# make demo        set up, run the reference policy, print where the report is (minutes)
#                  FROM_SCRATCH=1: record, label, train, evaluate (half an hour); QUICK=1: the same in a minute or two
# make test        set up, lint, type-check, run the tests
# Both make .venv with Python 3.12 and install the pinned versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
OUTPUT ?= outputs/demo

.PHONY: setup system-packages demo test lint slow-test clean

setup: system-packages $(VENV)/.installed

system-packages:
	@bash scripts/system-packages.sh

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info[:2] == (3, 12), "posa-vla needs Python 3.12, found %s: set PYTHON=" % sys.version.split()[0]'
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install --quiet --constraint constraints.txt --editable '.[sim,dev]'
	touch $@

demo: setup
	$(RUN)/posa-vla demo --output=$(OUTPUT) $(if $(FROM_SCRATCH),--from_scratch=true) $(if $(QUICK),--quick=true)

lint: setup
	$(RUN)/ruff check src tests examples
	$(RUN)/ruff format --check src tests examples
	$(RUN)/mypy

test: lint
	@bash scripts/system-packages.sh browser
	$(RUN)/pytest --numprocesses=auto --maxprocesses=4

slow-test: setup
	@bash scripts/system-packages.sh browser
	$(RUN)/pytest -m slow

clean:
	rm -rf $(VENV) outputs
