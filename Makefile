# Two commands set everything up on a fresh machine (Python >= 3.11, make, git): make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

# Files and folder of the long studies; without DATA, events are simulated first.
DATA ?=
PYTHIA ?=
STUDIES ?= validation-run
ONLY ?=

.PHONY: demo test slow validate lint types layers docs clean

demo: $(VENV)/.core
	$(BIN)/serendip demo --out demo-run

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

validate: $(VENV)/.dev
	$(BIN)/python benchmarks/studies.py --out $(STUDIES) $(if $(DATA),--data $(DATA)) $(if $(PYTHIA),--pythia $(PYTHIA)) $(if $(ONLY),--only $(ONLY))

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell src tests docs benchmarks README.md CHANGELOG.md CONTRIBUTING.md

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# torch first and by exact version: a range would take a build with several GB of GPU libraries.
$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(PIP) -e ".[hdf]"
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) --only-binary pythia8mc,fastjet -e ".[hdf,simulate,onnx,tune,theories,dev]"
	touch $@

clean:
	rm -rf $(VENV) docs/_build demo-run
