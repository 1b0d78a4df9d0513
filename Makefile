# Two commands for a newcomer: `make demo` and `make test`. Each installs what it needs.

PYTHON ?= python3
CASE ?= SparseSegNet/Resources/Sample/kidney
TIME ?= 90
SLICES ?= 3,3,2
VENV := .venv
BIN := $(VENV)/bin
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
endif
STAMP := $(VENV)/.installed

.PHONY: demo test lint docs fuzz benchmark benchmark-ablation benchmark-accuracy benchmark-bits benchmark-busy benchmark-dask benchmark-faults benchmark-gpu benchmark-limits benchmark-live benchmark-memory benchmark-panel benchmark-profile benchmark-ranks benchmark-speed benchmark-zarr benchmark-zarr-training cases clean

demo: $(STAMP)
	$(BIN)/python Testing/Benchmark/demo.py "$(CASE)" --output demo --time-budget $(TIME) --spread $(SLICES)

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mkdocs build
	$(BIN)/python -m pytest -n 3 --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/mkdocs build

fuzz: $(STAMP)
	$(BIN)/python Testing/Fuzz/fuzz.py $(ARGS)

cases: $(STAMP)
	$(BIN)/python Testing/Benchmark/shared_cases.py $(ARGS)

benchmark: $(STAMP) .venv-biomedisa
	$(BIN)/python -m pip install --quiet -r requirements-benchmark.txt
	$(BIN)/python Testing/Benchmark/compare.py $(ARGS)

# Where it cannot be installed the benchmark lists it as not run.
.venv-biomedisa: requirements-biomedisa.txt
	$(PYTHON) -m venv .venv-biomedisa
	-.venv-biomedisa/bin/python -m pip install --quiet -r requirements-biomedisa.txt
	touch .venv-biomedisa

benchmark-accuracy: $(STAMP)
	$(BIN)/python Testing/Benchmark/accuracy.py

benchmark-ablation: $(STAMP)
	$(BIN)/python Testing/Benchmark/ablation.py $(ARGS)

benchmark-speed: $(STAMP)
	$(BIN)/python Testing/Benchmark/speed.py $(ARGS)

benchmark-gpu: $(STAMP)
	$(BIN)/python -m pip install --quiet -r requirements-benchmark.txt
	$(BIN)/python Testing/Benchmark/gpu.py $(ARGS)

benchmark-profile: $(STAMP)
	$(BIN)/python Testing/Benchmark/profiling.py $(ARGS)

benchmark-ranks: $(STAMP)
	$(BIN)/python Testing/Benchmark/ranks.py $(ARGS)

benchmark-limits: $(STAMP)
	$(BIN)/python Testing/Benchmark/limits.py $(ARGS)

benchmark-live: $(STAMP)
	$(BIN)/python Testing/Benchmark/live.py $(ARGS)

benchmark-memory: $(STAMP)
	$(BIN)/python Testing/Benchmark/memory.py $(ARGS)

benchmark-panel: $(STAMP)
	PANEL_BENCHMARK=1 $(BIN)/python -m pytest -q -s Testing/Python/gui/test_heartbeat.py

benchmark-bits: $(STAMP)
	$(BIN)/python Testing/Benchmark/same_bits.py $(ARGS)

benchmark-dask: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python Testing/Benchmark/dask_scaling.py $(ARGS)

benchmark-zarr: $(STAMP)
	$(BIN)/python Testing/Benchmark/zarr_volumes.py $(ARGS)

benchmark-zarr-training: $(STAMP)
	$(BIN)/python Testing/Benchmark/zarr_training.py $(ARGS)

benchmark-busy: $(STAMP)
	$(BIN)/python Testing/Benchmark/busy.py

benchmark-faults: $(STAMP)
	RUNS=200 $(BIN)/python -m pytest -q -s Testing/Python/gui/test_many_runs.py
	$(BIN)/python Testing/Benchmark/faults.py $(ARGS)

# The stamp keeps `make` from asking pip each time; it is remade when a requirement changes.
$(STAMP): pyproject.toml requirements-dev.txt requirements-lint.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed; name one with make PYTHON=...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	$(BIN)/python -c "open('$(STAMP)', 'w').close()"

clean:
	rm -rf $(VENV) demo build dist
