# Two commands do all set-up: `make sweep` and `make test`. Each makes .venv if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/headline
LIVES ?= 10000
FIRST ?= 0
CELLS ?= 20000
MINUTES ?= 10
SEED ?= 1
AXE := build/axe/node_modules/axe-core/axe.min.js
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: docs release torture test-lowest test-pythons sweep test suite-rest lane-bounds lane-python lane-benchmarks lane-lives lint lives era-lives live-lives cpus-lives cells told axe own-policies own-kernels hunt-mutants races bench clean bounds thorough
.DELETE_ON_ERROR:

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP) install -c constraints.txt -e '.[test,docs]'
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

# The tests as jobs: each core takes the next when it is done with one, so both end together
# whatever is added. The model's tests compile most of what the others call: they come first, beside
# what shares no compiled kernels with them, so that little is compiled twice. A job's words come at
# its end.
APART := model race kernels dumps product guests sweeps hunt cli compiled store report
PYTEST := $(BIN)/python -m pytest -W error --durations=5
JOBS := lint suite-model lane-bounds lane-python $(patsubst %,suite-%,$(filter-out model,$(APART))) \
    suite-rest lane-benchmarks lane-lives

test: $(VENV)/.test
	@$(MAKE) --no-print-directory --keep-going --output-sync=target -j2 $(JOBS)

suite-rest: $(VENV)/.test
	$(PYTEST) $(APART:%=--ignore=tests/%)

suite-%: $(VENV)/.test
	$(PYTEST) tests/$*

# With bounds checks everything is compiled a second time: what compiles most is left to make bounds.
BOUNDS := tests/compiled tests/guests/test_cell.py \
    $(addprefix tests/model/test_,damage.py digests.py hazards.py poke.py properties.py save_checks.py)

lane-bounds: $(VENV)/.test
	P2MBATCH_BOUNDSCHECK=1 $(PYTEST) -m lane $(BOUNDS)

bounds: $(VENV)/.test
	P2MBATCH_BOUNDSCHECK=1 $(PYTEST) -m lane

# What make test leaves out for the time it takes.
thorough: $(VENV)/.test
	P2MBATCH_HYPOTHESIS=thorough $(PYTEST) -m thorough
	P2MBATCH_HYPOTHESIS=thorough $(PYTEST) -m "not thorough" tests/guests/test_eras.py \
	    tests/guests/test_batch.py tests/model/test_policies.py

lane-python: $(VENV)/.test
	NUMBA_DISABLE_JIT=1 $(PYTEST) -m lane

lane-benchmarks: $(VENV)/.test
	$(PYTEST) benchmarks --benchmark-disable

lane-lives: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m campaign --lives 100
	PYTHONPATH=tests $(BIN)/python -m campaign.live --lives 5 --first 7000000

# Random lives of each format, the compiled model against the naive one; SEED makes other lives.
lives: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m campaign --lives $(LIVES) --seed $(SEED)

# Random lives of the eras: LIVES of each policy on each machine, from the FIRST on.
era-lives: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m campaign.eras --lives $(LIVES) --first $(FIRST)

# Random live lives, LIVES of each policy: the guest goes on growing and ballooning while it is sent.
live-lives: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m campaign.live --lives $(LIVES) --first $(FIRST)

# Random lives in which several CPUs set entries at once, LIVES of each policy that has such steps.
cpus-lives: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m campaign.live --cpus --lives $(LIVES) --first $(FIRST)

# Random cells lived in batches, against the same cells lived step by step.
cells: $(VENV)/.test
	P2MBATCH_RANDOM_CELLS=$(CELLS) $(BIN)/python -m pytest -q -s tests/guests/test_batch.py -k random_cells

# Random lives told (docs/explain.md): last states, stray writes, numbers and functions of every line.
told: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m campaign.explained --lives $(LIVES) --seed $(SEED)

# The pages of an explanation, a sweep, an audit and a benchmark under axe-core, an auditor of pages that npm has.
axe: $(VENV)/.test $(AXE)
	$(PYTEST) tests/report/test_explain_page.py tests/report/test_report_ways.py tests/report/test_axe_pages.py

$(AXE):
	npm install --prefix build/axe --no-save --no-audit --no-fund axe-core@4.14.1

# The two sides of the change as users' files: every trace, the headline's columns, random lives.
own-policies: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m own_policies --lives $(LIVES) --seed $(SEED)

# The same of the two sides as kernels' files in C, each lived in its child.
own-kernels: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m own_policies --kernels --lives $(LIVES) --seed $(SEED)

# Twenty mutants of tracked, each one clause of a user's file: each must be found in a minute of lives.
hunt-mutants: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m hunt.mutants --seed $(SEED)

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

# The documentation site, with the notebooks executed; its links are looked at, warnings are errors.
docs: $(VENV)/.test
	$(BIN)/python docs/build.py

# sdist and wheel, built, checked, and the wheel tried alone elsewhere. DOCS_URL says where the site
# will lie, for the links of the package's description.
release:
	P2MBATCH_DOCS_URL=$(DOCS_URL) $(PYTHON) tests/release.py

bench: $(VENV)/.core
	$(BIN)/p2mbatch bench --out perf

clean:
	rm -rf $(VENV) runs perf build dist
