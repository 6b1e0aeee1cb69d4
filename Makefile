# The commands of the project; `make help` lists them. Needs Python 3.11 to 3.13, make and a package index.
PYTHON ?= python3
PORT ?= 3000
DATA ?=
PYTEST ?=

BIN := .venv/bin
INSTALLED := .venv/.installed
PACKAGE := mlops_assets mlops_assets_tests benchmarks deploy
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
COMPILE := $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --fork-strategy fewest \
	--no-strip-extras --generate-hashes --no-emit-index-url --custom-compile-command "make lock"
LOCK := $(COMPILE) --extra monitoring --extra postgres

export VIRTUAL_ENV := $(CURDIR)/.venv
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install demo dev test check deploy-check smoke-cluster faults lock clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Install the locked packages and the project into .venv

demo: $(INSTALLED) ## Play several months of the shipped models' lives (DATA=<folder>: on real files)
	@$(BIN)/mlops-assets demo $(if $(DATA),--data "$(DATA)")

dev: $(INSTALLED) ## Open the Dagster UI and its daemon on the demo's instance (PORT=3000)
	@$(BIN)/mlops-assets dev --port $(PORT)

test: $(INSTALLED) ## Run the tests (PYTEST="-k name": some of them)
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST)

check: $(INSTALLED) ## Lint, format, types, layers, definitions
	@$(BIN)/ruff check $(wildcard $(PACKAGE))
	@$(BIN)/ruff format --check $(wildcard $(PACKAGE))
	@$(BIN)/ty check
	@$(BIN)/lint-imports --no-logo
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && cp dagster.yaml "$$home" && DAGSTER_HOME="$$home" $(BIN)/dg check defs
	@$(BIN)/mlops-assets check

deploy-check: $(INSTALLED) ## Run every check of deploy/, with those that need Terraform
	@MLOPS_DEPLOY_CHECK=1 $(BIN)/python -m pytest -q mlops_assets_tests/deploy $(PYTEST)

smoke-cluster: $(INSTALLED) ## Let steps meet their ends on a real cluster (KUBECONFIG=<file>)
	@MLOPS_SMOKE_KUBECONFIG="$(KUBECONFIG)" $(BIN)/python -m pytest -q -rs mlops_assets_tests/cluster/test_smoke.py -k real $(PYTEST)

faults: $(INSTALLED) ## Run the fault tests and write their figures into docs/faults.md
	@$(BIN)/python benchmarks/faults.py

lock: $(INSTALLED) ## Choose versions anew for the requirements files (UPGRADE=1: the newest)
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --output-file requirements/runtime.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --group dev --constraints requirements/runtime.txt \
		--output-file requirements/dev.txt
	$(COMPILE) pyproject.toml --extra torch --constraints requirements/torch-cpu.txt --constraints requirements/runtime.txt \
		$$(sed -En 's/^([A-Za-z0-9._-]+)(\[.*\])?==.*/--no-emit-package \1/p' requirements/runtime.txt) \
		--output-file requirements/torch.txt
	$(COMPILE) --group serving --constraints requirements/dev.txt --output-file requirements/serving.txt
	$(COMPILE) --group mlflow-server --constraints requirements/dev.txt --output-file requirements/mlflow.txt
	$(COMPILE) --group wheel --constraints requirements/dev.txt --output-file requirements/wheel.txt

clean: ## Remove .venv, caches and build output; what ran stays in .mlops
	rm -rf .venv .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
	find $(wildcard $(PACKAGE)) -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
		"Python 3.11 to 3.13 is needed; $(PYTHON) is %d.%d. Name another: make PYTHON=python3.12" % v)'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "$(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }

# The lock is complete, so nothing is resolved again. Bytecode is compiled once here: each process would pay for it.
$(INSTALLED): requirements/dev.txt requirements/torch-cpu.txt pyproject.toml | .venv/bin/python
	@echo "Installing the locked packages into .venv; this takes a minute or two ..."
	@$(PIP) --no-compile --only-binary :all: --require-hashes --requirement requirements/dev.txt
	@$(PIP) --no-compile --only-binary :all: --require-hashes --requirement requirements/torch-cpu.txt 2>/dev/null || \
		echo "No CPU build of PyTorch of requirements/torch-cpu.txt is offered for this platform: its tests will be skipped."
	@$(PIP) --no-compile --no-build-isolation --editable .
	@$(BIN)/python -m compileall -qq -j 0 -x '/(tests|node_modules)/' .venv/lib mlops_assets mlops_assets_tests >/dev/null 2>&1 || true
	@touch $@
