# Every target says what it does: `make help`.
# CLUSTER=current uses the cluster of the current kubeconfig context instead of the local one.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
CLUSTER ?= local
export CLUSTER

BIN := .venv/bin
LOCKS := requirements/dev.txt requirements/build.txt requirements/model.txt
HACK := PYTHONPATH=hack $(BIN)/python -m
DEVCLUSTER := $(PYTHON) hack/devcluster
# The addresses, keys and images of the cluster; read when a recipe runs, because `up` makes them.
WITH_CLUSTER := environment="$$($(DEVCLUSTER) env)" && eval "$$environment" &&

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: demo
demo: setup cluster-up images deploy ## From nothing to a trained adapter: cluster, model, data, kubectl apply, answers
	$(WITH_CLUSTER) $(HACK) demo

.PHONY: test
test: lint unit cluster-up images integration browser e2e ## Run every check and test, against a real cluster

.PHONY: setup
setup: .venv/.ready ## Make .venv with the locked requirements

.venv/.ready: $(LOCKS) requirements/uv.txt pyproject.toml
	@echo "setup: making .venv (torch and its CUDA libraries are 5 GB; this takes about a minute)"
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || { \
		echo "setup: needs Python 3.11 or newer with venv (Debian: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes $(LOCKS)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: lint
lint: setup verify ## Check format, style, types and layers
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

.PHONY: format
format: setup ## Format the code and mend what ruff can mend
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --fix --quiet .

.PHONY: unit
unit: setup ## Run the unit tests: no I/O, seconds
	$(BIN)/pytest tests/unit

.PHONY: integration
integration: setup cluster-up ## Run the integration tests: real API server, real S3; three groups side by side
	+$(MAKE) --no-print-directory --jobs=3 --output-sync=target integration-operator integration-serving integration-trainer

# Mostly waiting, so they share two cores well. Each group brings its own API servers.
SERVING := tests/integration/operator/delivery
OTHERS := $(SERVING) tests/integration/trainer
integration-operator: TESTS = tests/integration $(addprefix --ignore=,$(OTHERS))
integration-serving: TESTS = $(SERVING)
integration-trainer: TESTS = tests/integration/trainer
.PHONY: integration-operator integration-serving integration-trainer
integration-operator integration-serving integration-trainer:
	$(WITH_CLUSTER) $(BIN)/pytest --durations=15 --durations-min=5 $(TESTS)

.PHONY: browser
browser: setup ## Run the tests of the dashboard in Debian's chromium, which root gets installed
	@command -v chromium >/dev/null || test "$$(id -u)" != 0 || { \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } \
		|| echo "browser: chromium could not be installed, so its tests are skipped"
	$(BIN)/pytest tests/browser

.PHONY: e2e
e2e: setup cluster-up images deploy ## Run the end-to-end tests: real pods
	$(WITH_CLUSTER) $(BIN)/pytest tests/e2e

.PHONY: e2e-serving
e2e-serving: setup cluster-up images engine-image deploy ## Run the end-to-end tests on real vLLM; needs 12 GB of memory
	$(WITH_CLUSTER) $(BIN)/pytest tests/e2e/serving -m vllm -s

.PHONY: chaos
chaos: setup cluster-up ## Kill trainers 100 times and compare their adapters (CHAOS="--record" writes bench/RESULTS.md)
	PYTHONPATH=hack:tests $(BIN)/python -m chaos $(CHAOS)

.PHONY: bench
bench: setup ## Measure the trainer beside Trainer and TRL, as BENCH="--only a,c --record"
	PYTHONPATH=hack:tests $(BIN)/python -m bench.trainer $(BENCH)

.PHONY: bench-operator
bench-operator: setup cluster-up ## Measure the operator beside Kubeflow Trainer, as BENCH="--quick"
	PYTHONPATH=hack:tests $(BIN)/python -m bench.operator $(BENCH)

.PHONY: bench-serving
bench-serving: setup cluster-up ## Measure the delivery of adapters to many pods, as BENCH="--quick"
	PYTHONPATH=hack:tests $(BIN)/python -m bench.serving $(BENCH)

.PHONY: cluster-up
cluster-up: ## Bring the local cluster up (safe to run again)
	$(DEVCLUSTER) up

.PHONY: cluster-down
cluster-down: ## Take the local cluster down
	$(DEVCLUSTER) down

.PHONY: clean
clean: ## Take the local cluster down and remove its state, .venv and caches of the tree
	$(DEVCLUSTER) down --purge
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: images
images: cluster-up ## Build operator, agent and trainer image and make them known to the cluster
	$(DEVCLUSTER) images

.PHONY: engine-image
engine-image: cluster-up ## Build the image of vLLM on the CPU, which e2e-serving alone needs
	$(DEVCLUSTER) images engine

.PHONY: deploy
deploy: setup cluster-up images ## Install the operator and the CRDs into the cluster with the Helm chart
	helm="$$($(DEVCLUSTER) helm)" && $(WITH_CLUSTER) $(HACK) deploy "$$helm"

.PHONY: chart
chart: ## Check the Helm chart with each of its example values, and pack it into dist/
	@helm="$$($(DEVCLUSTER) helm)"; \
	for values in charts/lora-operator/ci/*-values.yaml; do \
		"$$helm" lint --strict --quiet charts/lora-operator --values "$$values"; \
	done; \
	"$$helm" package charts/lora-operator --destination dist

.PHONY: generate
generate: setup ## Write the generated files: CRDs and install.yaml
	$(HACK) generate write

.PHONY: verify
verify: setup ## Fail when a generated file differs from what the types say
	$(HACK) generate check

.PHONY: lock
lock: setup ## Resolve the requirements anew and lock them with hashes
	hack/lock.sh
