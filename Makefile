# Everything runs in .venv, which these targets create from the lock by themselves.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test check bench chaos fuzz image lock clean

VENV := .venv
PYTHON := $(VENV)/bin/python
UV := uv==0.13.9

# A .venv that was copied here from elsewhere, or whose Python is gone, is made anew.
ifneq ($(shell cat $(VENV)/.made 2>/dev/null && $(PYTHON) -c '' 2>&1),$(CURDIR))
  $(shell rm -f $(VENV)/.made $(VENV)/.packages)
endif

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile

demo: $(VENV)/.made ## a demo agent, the sandbox and the wrapper between them; Ctrl-C or DEMO_SECONDS=N ends it
	@$(PYTHON) demo/run.py

test: $(VENV)/.made ## the tests; PYTEST="-k cursor" narrows them
	@$(PYTHON) -m pytest $(PYTEST)

check: $(VENV)/.made ## what CI runs: lint, types, contracts between the rooms, tests with branch coverage
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	$(PYTHON) -m coverage erase
	$(PYTHON) -m tests.run $(PYTEST)
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report

bench: $(VENV)/.made ## the figures of the README
	@$(PYTHON) -m tests.bench

chaos: $(VENV)/.made ## random faults on a wrapper with four sinks, 10 minutes; CHAOS="--seed 7 --seconds 60" tells another story
	@$(PYTHON) -m tests.chaos $(CHAOS)

fuzz: $(VENV)/.made ## the journal's reader, the decoder and the sandbox against what atheris makes up; FUZZ_SECONDS=N each, 60
	@$(PYTHON) -m tests.fuzz reader $(or $(FUZZ_SECONDS),60)
	@$(PYTHON) -m tests.fuzz decoder $(or $(FUZZ_SECONDS),60)
	@$(PYTHON) -m tests.fuzz sandbox $(or $(FUZZ_SECONDS),60)

image: ## the package for any image, as agent-shipper; BASE=... names the Python image it is made from
	docker build $(if $(BASE),--build-arg BASE=$(BASE)) --file docker/Dockerfile --tag agent-shipper .

lock: $(VENV)/.made ## newest versions into requirements*.txt
	$(PYTHON) -m venv $(VENV)/uv && $(VENV)/uv/bin/pip install --quiet $(UV)
	$(VENV)/uv/bin/uv --no-config pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --custom-compile-command 'make lock' pyproject.toml -o requirements.txt
	$(VENV)/uv/bin/uv --no-config pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --custom-compile-command 'make lock' pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt

clean: ## removes .venv and every cache
	rm -rf $(VENV) build dist htmlcov .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python that is new enough and can make environments (Debian's cannot without python3-venv).
$(VENV)/.packages: requirements-dev.txt
	@for python in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  found=$$python; \
	  "$$python" -c 'import ensurepip, venv' 2>/dev/null && { usable=$$python; break; }; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "shipper needs Python 3.11 or newer; python3 here is: $$(python3 --version 2>/dev/null || echo missing)" >&2; exit 1; \
	elif [ -z "$$usable" ]; then \
	  echo "$$found here cannot make environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	fi; \
	echo "making $(VENV) with $$("$$usable" --version), about a minute ..."; \
	rm -rf $(VENV) && "$$usable" -m venv $(VENV)
	@$(PYTHON) -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/.made: $(VENV)/.packages pyproject.toml
	@$(PYTHON) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@printf '%s' '$(CURDIR)' > $@
