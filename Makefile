SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
BIN := .venv/bin
PACKAGES := libs.backup libs.cli libs.consents libs.embedded libs.eventstore libs.expectations libs.expressions libs.identity libs.postgres libs.projection libs.rpc libs.telemetry services tests
# Tests start many processes: each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
# A file's tests share what they start; the longest files come first.
BY_FILE := --dist loadfile --no-loadscope-reorder
DEPLOY_TESTS := $(wildcard tests/*/test_deploy_*.py)
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

.PHONY: help install demo up test test-faults test-long lint check-deploy gen lock bench

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: .venv/.installed ## Install what the project needs into .venv, checked by hash

.venv/.installed: requirements/dev.txt pyproject.toml bin/touchline
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@ln -sf ../../bin/touchline $(BIN)/touchline
	@touch $@

demo: install ## Tell one customer's story through the running services
	$(BIN)/touchline demo

up: install ## Run the servers and services until Ctrl-C
	$(BIN)/touchline up

# Three on two cores: tests wait for half of their time.
test: install ## Run the tests, but for those of check-deploy and test-faults
	$(BIN)/python -m pytest -n 3 $(BY_FILE) $(addprefix --ignore=,$(DEPLOY_TESTS))

test-faults: install ## Break everything for three minutes, always alike, and check what is left
	$(BIN)/python -m pytest -n 2 $(BY_FILE) tests/faults
	$(BIN)/python -m tests.faults

test-long: install ## The same for two hours with a new seed; or FAULTS="--seconds 60 --seed 7"
	$(BIN)/python -m tests.faults $(or $(FAULTS),--seconds 7200 --seed random)

lint: install ## Check style, types, layers and contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(addprefix -p ,$(PACKAGES)) -p touchline.client
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against protos/released.binpb
	@bin/check-generated

check-deploy: install ## Check everything in deploy/ and tilt/, without a cluster
	$(BIN)/python -m pytest -q -n 2 $(BY_FILE) $(DEPLOY_TESTS)

gen: install ## Generate the code of the protos
	@bin/generate

lock: install ## Lock the requirements anew
	$(COMPILE) requirements/dev.in -o requirements/dev.txt
	$(COMPILE) requirements/runtime.in -c requirements/dev.txt -o requirements/runtime.txt

bench: install ## Measure; BENCH=--quick for a smaller run
	$(BIN)/python -m tests.bench $(BENCH)
