# make run: set-up, the whole pipeline, then where the report is.   make test: set-up, lint, types, tests.
# A GPU host that wants another build of torch: make run TORCH="torch==2.13.0 --index-url <the index of your CUDA>"
PYTHON ?= python3.11
VENV ?= .venv
TORCH ?= torch==2.13.0
READY := $(VENV)/.ready
export PATH := $(abspath $(VENV))/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: run test lint types retrain clean

run: $(READY)
	@dvc repro report
	@vidrnn report

test: $(READY) lint types
	@pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=15  # a file stays in one process, and with it what its tests share

lint: $(READY)
	@ruff check .
	@ruff format --check .

types: $(READY)
	@mypy

retrain: $(READY)
	@python flows/retrain.py

$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV): some minutes, once."
	@$(PYTHON) -m venv $(VENV)
	@pip install --disable-pip-version-check --quiet --constraint constraints.txt $(TORCH)
	@pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV)
