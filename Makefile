# Two commands do all set-up: `make sweep` and `make test`. Each makes .venv if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/headline
LIVES ?= 10000
CELLS ?= 20000
MINUTES ?= 10
SEED ?= 1
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: torture test-lowest test-pythons sweep test suite beside suite-beside lanes lint lives cells own-policies races bench clean
.DELETE_ON_ERROR:

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP) install -c constraints.txt -e '.[test]'
	@# There are wheels of the fuzzer for some Pythons only: without one its test says so.
	-@$(PIP) install -c constraints.txt --only-binary atheris -e '.[fuzz]'
	@touch $@

sweep: $(VENV)/.core
	$(BIN)/p2mbatch sweep data/sweeps/headline.toml --out $(RUN)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

# One core has most of the suite, the other what takes about as long: its words come when it is done.
BESIDE := tests/base tests/dumps tests/race tests/report tests/plots tests/sweeps

test: lint
	@$(MAKE) --no-print-directory -j2 suite beside

suite: $(VENV)/.test
	$(BIN)/python -m pytest -W error $(BESIDE:%=--ignore=%)

beside: $(VENV)/.test
	@$(MAKE) --no-print-directory suite-beside lanes >$(VENV)/beside.log 2>&1; ended=$$?; \
	cat $(VENV)/beside.log; exit $$ended

suite-beside: $(VENV)/.test
	$(BIN)/python -m pytest -W error $(BESIDE)

lanes: $(VENV)/.test
	$(BIN)/python -m pytest -W error benchmarks --benchmark-disable
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -W error -m lane
	P2MBATCH_BOUNDSCHECK=1 $(BIN)/python -m pytest -W error -m lane
	PYTHONPATH=tests $(BIN)/python -m campaign --lives 1000

# Random lives of each format, the compiled model against the naive one; SEED makes other lives.
lives: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m campaign --lives $(LIVES) --seed $(SEED)

# Random cells lived in batches, against the same cells lived step by step.
cells: $(VENV)/.test
	P2MBATCH_RANDOM_CELLS=$(CELLS) $(BIN)/python -m pytest -q tests/guests/test_batch.py -k random

# The two sides of the change as users' files: every trace, the headline's columns, random lives.
own-policies: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m own_policies --lives $(LIVES) --seed $(SEED)

# Races too large for the tests, reduced against whole and against SPIN; a few minutes, about 6 GB.
races: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m race.thorough --seed $(SEED)

# Kills, flipped bits, mutated files, signals, for MINUTES; docs/reliability.md has the figures.
torture: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m torture --minutes $(MINUTES)

# A representative set with everything at the lower bound that pyproject.toml names.
test-lowest:
	$(PYTHON) tests/environments.py lowest

# The same under later Pythons; it says which are not to be had.
test-pythons:
	$(PYTHON) tests/environments.py pythons

bench: $(VENV)/.core
	$(BIN)/p2mbatch bench --out perf

clean:
	rm -rf $(VENV) runs perf build dist
