# Two commands do everything: `make sweep` and `make test`. Each installs what it needs, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
# One sweep a task, and one about bounds; together some six minutes on two cores.
SWEEPS := sweeps/bounded_heads.py sweeps/next_frame_heads.py sweeps/all_ones.py sweeps/margin.py

.PHONY: help install sweep test coverage test-slow bench mutants lint format clean constraints

help: ## what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp is newer than what decides the installation, so nothing is installed twice.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[frame]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[frame,test,lint]'
	touch $@

install: $(VENV)/.installed ## the virtual environment in .venv

sweep: $(VENV)/.installed ## a small sweep of each task, to a leaderboard
	$(BIN)/lightning-sep sweep $(SWEEPS)

# What waits for a cluster or for killed processes is begun first, beside what computes, by two
# processes more than there are cores, since half of them mostly wait. A test that fails is run once
# more; one that passes then is named at the end (RERUN): its clock wants mending.
PYTEST := $(BIN)/python -m pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 2)) --maxprocesses 4 --dist loadfile --no-loadscope-reorder --reruns 1 -rR -m 'not slow and not gpu'

test: $(VENV)/.installed-dev ## all tests but the slow ones, side by side
	$(PYTEST)

coverage: $(VENV)/.installed-dev ## the same tests, which take longer so, and which lines they execute
	$(PYTEST) --cov --cov-report=term --cov-fail-under=85

test-slow: $(VENV)/.installed-dev ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

# BENCH="start --rounds 3" runs one subject, three rounds of it.
bench: $(VENV)/.installed ## ratios against peers and bare things: a table, benchmarks.json
	$(BIN)/python tests/benchmarks $(BENCH)

# ROOM is a folder or file of lightning_sep/, or several with commas.
mutants: $(VENV)/.installed-dev ## break lines of ROOM= one at a time, name what no test notices
	$(BIN)/python tests/mutants.py $(ROOM) --count $(or $(N),40) --seed $(or $(SEED),0) --jobs $(or $(JOBS),2)

lint: $(VENV)/.installed-dev ## format check, rules, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

constraints: $(VENV)/.installed-dev ## write constraints.txt from what is installed
	{ head -n 2 constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//'; } > constraints.new
	mv constraints.new constraints.txt

clean: ## remove the virtual environment and caches; runs/ and data/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage*
