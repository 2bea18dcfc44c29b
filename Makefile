# What one does with the shop. `make help` lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 8000
SOURCES := config.py config_rules.py wsgi.py gunicorn.conf.py shop migrations tests bench examples
WORKERS ?= 2
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

.PHONY: help install run test test-full lint format openapi bench lock

help: ## List what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed ## Make .venv with what the shop needs to run

run: $(VENV)/.installed ## Run the shop with demo data: API, jobs and MQTT broker
	@$(BIN)/flask db upgrade
	@$(BIN)/flask shop demo --products 200 --if-empty
	@PORT=$(PORT) exec $(BIN)/gunicorn -c gunicorn.conf.py wsgi:app

test: $(VENV)/.installed-dev ## Run the tests; SHOP_TEST_REQUIRE=mariadb,mosquitto forbids skips
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not full"

test-full: $(VENV)/.installed-dev ## Run the tests at their full sizes: kills, races, models
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev ## Check style, types, imports, dependencies
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/deptry .

format: $(VENV)/.installed-dev ## Format the code
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

openapi: $(VENV)/.installed ## Write docs/openapi.json and the README's table of settings
	$(BIN)/flask openapi write docs/openapi.json
	$(BIN)/flask shop settings --into README.md

bench: $(VENV)/.installed-dev ## Measure, as ratios to a hand-written twin in the same run
	$(BIN)/python -m bench

lock: $(VENV)/.installed-dev ## Compile the requirements with their hashes
	$(LOCK) requirements.in -o requirements.txt
	$(LOCK) requirements-dev.in -o requirements-dev.txt

$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "The shop needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.txt
	@touch $@
