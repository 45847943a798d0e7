SHELL := /bin/bash
export PATH := $(or $(KD_VENV),$(CURDIR)/tools/venv)/bin:$(CURDIR)/utils:$(PATH):/usr/lib/sctk/bin
export PYTHONPATH := $(CURDIR)
export PYTHONUTF8 := 1
# Tests run in parallel processes; more threads in each would only fight for the cores.
export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo test check lint unit recipes test-cluster test-faults fuzz soak docs docs-serve lock clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: ## tools/venv with the locked versions, and sclite, espeak-ng, shellcheck, bats through apt
	@tools/setup.sh

demo: setup ## the whole of egs2/mini: corpus, teacher, students, scores (a quarter of an hour on two cores)
	@env -u OMP_NUM_THREADS egs2/mini/asr1/run.sh

test: check recipes ## lint, unit tests and small runs of the recipes

check: lint unit ## what a commit should pass

lint: setup ## ruff, import contracts, shellcheck
	@tools/check_env.py --quiet --stages test
	ruff check .
	ruff format --check .
	lint-imports --no-logo
	git ls-files -z --cached --others --exclude-standard '*.sh' | xargs -0 shellcheck -x -P egs2/TEMPLATE/kd1:utils

unit: setup ## tests of every part
	bats test/shell
	python -m pytest -q -n auto --ignore test/recipes --ignore test/jobs/cluster test

recipes: setup ## small runs of the recipes
	python -m pytest -q -n auto --dist worksteal test/recipes

test-cluster: setup ## a whole recipe through a real Slurm, and a real Grid Engine (some minutes)
	python -m pytest -q test/jobs/cluster

BASELINE ?= false
ROWS ?=

test-faults: setup ## what broken data, crashes and attacks come to; BASELINE=true: ESPnet2's programs too; ROWS="F1 S2": only these
	python test/faults $(ROWS) --baseline $(BASELINE) $(if $(ROWS),,--output test/faults/RESULTS.md)

fuzz: setup ## hostile files for everything that reads files, SECONDS=3600 in all
	python tools/fuzz/fuzz.py --seconds $(or $(SECONDS),3600)

soak: setup ## a recipe killed KILLS=200 times and resumed each time, compared with an uninterrupted run
	python tools/soak/soak.py --kills $(or $(KILLS),200)

# Material's advertisement for its successor.
docs docs-serve: export NO_MKDOCS_2_WARNING := 1

docs: setup ## the documentation as a site, site/index.html; runs the tutorials once (five minutes), then it takes seconds
	nice tools/docs/notebooks.py
	mkdocs build --quiet --strict
	@echo "open site/index.html, or make docs-serve to search in it"

docs-serve: setup ## the documentation at http://127.0.0.1:8000, made anew whenever a page changes
	mkdocs serve --quiet

lock: ## tools/requirements.lock anew, from pyproject.toml
	tools/lock.sh

clean: ## remove caches; data, experiments and tools/venv stay
	find . -name __pycache__ -not -path './tools/venv/*' -prune -exec rm -rf {} +
	rm -rf .pytest_cache .ruff_cache .import_linter_cache .hypothesis .site_cache site
