# Everything happens in .venv, which is made from the first Python that plyvel has wheels for.
# make run ARGS="--port 7000"    make test ARGS="-k expiry"    make test ARGS="-n 0 -x --pdb"

VENV   := .venv
PYTHON := $(VENV)/bin/python
PIP    := $(PYTHON) -m pip --disable-pip-version-check --quiet
ARGS   ?=

# Modules that write files from what the code declares: --write, --check.
GENERATORS := norikv_resp.options norikv_resp.command_docs

.DEFAULT_GOAL := help
.PHONY: help run test lint generated docs bench bench-vectors bench-patterns clean
.DELETE_ON_ERROR:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## start the server on 127.0.0.1:6379 with conf/norikv.conf, data in ./data
	@exec $(PYTHON) -m norikv_resp conf/norikv.conf $(ARGS)

test: lint generated ## everything: lint, types, generated files, all tests
	@$(PYTHON) -m pytest --numprocesses auto --maxprocesses 4 $(ARGS)

lint: $(VENV)/.dev ## ruff and mypy
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy

generated: $(VENV)/.dev ## check that generated files are up to date
	@for module in $(GENERATORS); do $(PYTHON) -m $$module --check || exit 1; done

docs: $(VENV)/.dev ## write the generated files: documentation and conf/norikv.conf
	@for module in $(GENERATORS); do $(PYTHON) -m $$module --write || exit 1; done

bench: $(VENV)/.dev ## compare the speed with a peer's: ratios, several rounds
	@$(PYTHON) -m tests.bench $(ARGS)

bench-vectors: $(VENV)/.dev ## vector search and adding beside USearch in process, as ratios
	@$(PYTHON) -m tests.bench.vectors $(ARGS)

bench-patterns: $(VENV)/.dev ## compare the patterns with Lua and WATCH on redis-server
	@$(PYTHON) -m tests.bench.patterns $(ARGS)

clean: ## remove what make and the tools have made; ./data stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find norikv_resp modules tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made: .ci/make-venv
	@.ci/make-venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made pyproject.toml
	@echo "Installing norikv-resp and its dependencies into $(VENV)"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	@echo "Installing norikv-resp, its dependencies and the development tools into $(VENV)"
	@$(PIP) install --editable '.[test,lint,bench]'
	@touch $@ $(VENV)/.run
