# Every target makes or reuses .venv and installs into it what it needs; nothing else is asked of the machine but Python 3.11+.
PYTHON ?= python3
BIN := .venv/bin
PROTOS := $(wildcard proto/rmapi/v1/*.proto)

.PHONY: all demo test sim axcl-table axcl-stress check proto bench format clean
all: check test

.venv/.dev: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Leasehold needs Python 3.11 or later, this is " + sys.version.split()[0] + "; name another with PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || { echo "making .venv"; $(PYTHON) -m venv .venv; }
	@echo "installing what the project needs into .venv (a minute on the first run)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

# The models of the demo arrive inside PyPI wheels; neither wheel's own dependencies are wanted.
.venv/.models: .venv/.dev
	@echo "fetching the demo's models from PyPI"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'magika==1.0.3'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python 'rapidocr-onnxruntime==1.4.4'
	@touch $@

demo: .venv/.models
	@$(BIN)/python -m demo

# A file's tests run in one process, and files side by side: three, as tests wait for a quarter of their time, which two
# CPUs fill well. Files keep their order, so that none of the long ones comes last.
WORKERS ?= 3
test: .venv/.models
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# make sim SEEDS=10000, or make sim SEED=123 for one of them with everything that happens in it.
SEEDS ?= 1000
sim: .venv/.dev
	@PYTHONPATH=tests $(BIN)/python -m sim $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

# The 61 statements about AXCL: what the shipped library answers, and what is answered here. Tried as it is printed.
axcl-table: .venv/.models
	@PYTHONPATH=tests $(BIN)/python -m support.statements

# The model of AXCL's rules against random calls of 8 threads: make axcl-stress CALLS=10000 SEED=7
CALLS ?= 10000
axcl-stress: .venv/.models
	@AXCL_STRESS_CALLS=$(CALLS) $(if $(SEED),AXCL_STRESS_SEED=$(SEED)) $(BIN)/python -m pytest tests/axcl/test_stress.py -s

check: .venv/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/buf lint proto

proto: .venv/.dev
	@$(BIN)/python -m tests.support.generate proto

# The peers that PyPI has. labgrid pins protobuf, which is the project's own: it gets an environment of its own. A peer
# that cannot be had is no reason to stop: the table says that it is absent.
LABGRID := labgrid==26.0.1
.venv/.bench: .venv/.models
	@echo "installing what the benchmarks compare with"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]' || echo "psycopg is missing"
	@$(PYTHON) -m venv .venv/labgrid && .venv/labgrid/bin/python -m pip install --quiet --disable-pip-version-check \
	  '$(LABGRID)' || echo "labgrid is missing"
	@touch $@

# All of it, a quarter of an hour: the figures go to build/bench.json, and from there into docs/benchmarks.md.
bench: .venv/.bench
	@mkdir -p build
	@$(BIN)/python -m bench --json build/bench.json --write

format: .venv/.dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
