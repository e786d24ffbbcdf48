# One command each: make demo · make verify · make test · make coverage · make attack · make docs · make lint ·
# make format · make docs-run · make wheel · make release · make bench · make bench-quick · make paper · make paper-all · make gpu-wheels · make gpu ·
# make clean
PYTHON ?= python3
VENV ?= .venv
PEERS ?= .venv-peers
GPU_VENV ?= .venv-gpu
WHEELS ?= wheels
GPU_PYTHON_VERSION ?= 3.12
BIN := $(VENV)/bin
WORKERS ?= 2
DEMO_OUTPUT ?= outputs/demo

.PHONY: demo verify test coverage attack docs docs-run lint format wheel release bench bench-quick paper paper-all gpu-wheels gpu clean help

help:
	@echo "make demo    temperature-dependent bands and Fermi velocity of bilayer graphene from the shipped checkpoints"
	@echo "make verify  compare the package with known answers, from oscillators to networks trained on tight binding: minutes"
	@echo "make test    lint, then the whole test suite on $(WORKERS) processes"
	@echo "make coverage  the test suite, and which lines of mlepi it ran: htmlcov/index.html; fewer than 90 % are an error"
	@echo "make attack  doctored files, faults of the disk, kills and signals, thousands of them: half an hour; results in benchmarks/results"
	@echo "make lint    ruff and mypy"
	@echo "make format  rewrite the sources in the house style"
	@echo "make wheel   dist/mlepi-….whl: the package with configs, data and checkpoints, for an installation without a clone"
	@echo "make release  check the tree, build wheel and sdist into dist/, check both; python tools/release.py --tag tags them"
	@echo "make docs    the documentation as a site, build/docs/index.html"
	@echo "make docs-run  every shell block of the pages, run at small size in a copy of the clone: what ran, how long, what came of it"
	@echo "make bench   speed and memory beside mace-torch, Symmetrix-XL and a path-by-path network, 16 to 1,024 atoms and the magic-angle cell: hours"
	@echo "make bench-quick  the same at 64 atoms: minutes; results in benchmarks/results"
	@echo "make paper   docs/reproduction.md again: figures from the shipped checkpoints in minutes, tables of finished sweeps"
	@echo "make paper-all  the trainings and long inferences behind that page first, many hours, resumable"
	@echo "make gpu-wheels   fetch what a Python with torch and CUDA lacks to run mlepi, for a machine without a network"
	@echo "make gpu PYTHON=python3   everything that a GPU is wanted for, in five minutes; results in benchmarks/results"
	@echo "make clean   remove caches and build products; the environments and the outputs stay"

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mlepi needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

# The stamps say which set of packages the environment holds; the development set contains the other one.
$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(VENV)/installed-run $@

$(VENV)/installed-run: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

# Two processes share the samples, so each takes one thread. Further keys: make demo DEMO_OPTIONS=n_samples=100
demo: $(VENV)/installed-run
	OMP_NUM_THREADS=1 $(BIN)/mlepi demo folder=$(DEMO_OUTPUT) $(DEMO_OPTIONS)
	@echo "Figures, records and report.html: $(abspath $(DEMO_OUTPUT))"

# Trainings and inferences of the full loop run two at a time, so each process takes one thread.
verify: $(VENV)/installed-run
	OMP_NUM_THREADS=1 $(BIN)/mlepi verify

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# A child whose lines are counted starts otherwise than one without, which this test would notice.
STARTS := tests/unit/test_warm_python.py::test_it_is_the_process_that_subprocess_starts
# Which tests are run may be narrowed: make coverage TESTS="tests/unit/physics --cov-fail-under=0"
coverage: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term --cov-report=html \
		--deselect $(STARTS) $(TESTS)

attack: $(VENV)/installed-dev
	$(BIN)/python benchmarks/attack.py $(ATTACK_OPTIONS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/installed-dev
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@ls -s -h dist/*.whl

release: $(VENV)/installed-dev
	$(BIN)/python tools/release.py

# Pages, notebooks as they are stored, and docstrings; a warning, such as a dead link, is an error.
docs: $(VENV)/installed-dev
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --builder html --conf-dir docs --doctree-dir build/doctrees . build/docs
	@echo "$(abspath build/docs/index.html)"

# Some pages alone: make docs-run PAGES="docs/label.md README.md"
docs-run: $(VENV)/installed-dev
	$(BIN)/python tools/run_docs.py $(PAGES)

# The peers pin an older e3nn, so they live in an environment of their own. Symmetrix is there for Linux on x86-64 alone,
# and is left out elsewhere.
$(PEERS)/installed: benchmarks/constraints-peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $< torch mace-torch
	-$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $< symmetrix-xl symmetrix-xl-cpu-avx512
	@touch $@

bench: $(VENV)/installed-run $(PEERS)/installed
	$(BIN)/python benchmarks/speed.py --peers $(PEERS)/bin/python $(BENCH_OPTIONS)

bench-quick: $(VENV)/installed-run $(PEERS)/installed
	$(BIN)/python benchmarks/speed.py --quick --peers $(PEERS)/bin/python $(BENCH_OPTIONS)

paper: $(VENV)/installed-run
	$(BIN)/python benchmarks/paper.py

paper-all: $(VENV)/installed-run
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/paper.py --all

# Nothing but the standard library and pip: PYTHON is any Python here, and the one with torch and CUDA there.
gpu-wheels:
	$(PYTHON) benchmarks/gpu_environment.py fetch $(WHEELS) --python-version $(GPU_PYTHON_VERSION)

gpu:
	$(PYTHON) benchmarks/gpu_environment.py make $(GPU_VENV) $(WHEELS)
	$(GPU_VENV)/bin/python benchmarks/gpu.py $(GPU_OPTIONS)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.* htmlcov
	find . -path ./$(VENV) -prune -o -path ./$(PEERS) -prune -o -path ./$(GPU_VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
