# Needs python3 (3.11 to 3.13), make and git. `make` lists the targets.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install demo test test-fast lint types unit test-studies test-cluster gpu-check results docs lock

PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check -qq
# Of the tests, on two cores: those that start Ray wait half of their time.
WORKERS ?= 3

# What `make demo` runs; a second time it goes on with what is there.
DEMO := $(PY) tune.py --method erm rwg jtt --dataset colored_digits --trials 8 \
	--search-seeds 3 --results demo-results $(if $(wildcard demo-results.records),--resume)

# What `make results` runs: all methods on the data sets that need no download. `results/` itself is
# the folder of the user's studies, so that these have a folder of their own in it.
EMBEDDED := results/embedded
STUDY := $(PY) tune.py --method all --search tpe --address local --results $(EMBEDDED) --resume

# Exits with 0 where the venv's torch is a CUDA build whose packages are missing.
define LACKS_CUDA
import importlib.metadata as metadata
from packaging.requirements import Requirement

needed = map(Requirement, metadata.requires("torch") or [])
present = {(d.name or "").lower().replace("_", "-") for d in metadata.distributions()}
lacking = [
    need.name
    for need in needed
    if (need.marker is None or need.marker.evaluate({"extra": ""}))
    and need.name.lower().replace("_", "-") not in present
]
raise SystemExit(not lacking)
endef
export LACKS_CUDA

# `make test-fast` leaves out what starts Ray or whole commands, or imports every pretrained model.
FAST := --fast $(addprefix --ignore=tests/,cluster common/test_terminal.py core/models/pretrained \
	core/models/test_encoders.py core/toy core/weighting/test_installed.py \
	datasets/test_discovery.py datasets/test_prepare.py test_command_line.py test_digests.py \
	test_every_dataset.py test_guides.py tuning/cluster \
	tuning/doctor tuning/reporting/report tuning/study tuning/test_python_guide.py tuning/worker)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

install: .venv/.installed ## create .venv with everything a run and the tests need

# A changed lock gives a new environment. A candidate counts only if it runs: a version manager's
# shim may exist without its Python. The CPU build of torch comes first and is taken where pip finds
# it; elsewhere torch is the registry's build (see tools/lock.py).
.venv/.installed: requirements-dev.txt requirements-cpu.txt requirements-cuda.txt
	@for python in python3 python3.13 python3.12 python3.11; do \
	    if "$$python" -c 'import sys, ensurepip, venv; \
	        sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	        found="$$python"; break; \
	    fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "evenhand needs Python 3.11, 3.12 or 3.13 with its venv module" \
	        "(Debian and Ubuntu: python3-venv); none of python3, python3.13, python3.12 and" \
	        "python3.11 on PATH is one." >&2; \
	    exit 1; \
	fi; \
	echo "Installing the locked dependencies into .venv ($$("$$found" --version))," \
	    "which takes about a minute ..."; \
	"$$found" -m venv --clear .venv
	@$(PIP) install --no-deps --require-hashes -r requirements-cpu.txt 2>/dev/null || true
	@$(PIP) install --no-deps --require-hashes -r requirements-dev.txt
	@if $(PY) -c "$$LACKS_CUDA"; then \
	    echo "This torch is a CUDA build: installing its packages too (gigabytes) ..."; \
	    $(PIP) install --no-deps --require-hashes -r requirements-cuda.txt; \
	fi
	@$(PY) -m pip check
	@touch $@

demo: .venv/.installed ## tune three methods on a small data set, on this machine
	$(DEMO)

test: lint types unit ## run every check: lint, types and unit

lint: .venv/.installed ## check style and format with ruff
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: .venv/.installed ## check types with mypy
	$(PY) -m mypy

unit: .venv/.installed ## run the tests, without those of test-studies and test-cluster
	$(PY) -m pytest -q -n $(WORKERS) --dist worksteal --ignore=tests/cluster -m "not study"

test-studies: .venv/.installed ## run whole studies: killed, resumed, interrupted, on shared GPUs
	$(PY) -m pytest -q -n $(WORKERS) --dist worksteal --ignore=tests/cluster -m study

test-fast: .venv/.installed ## run the tests to use while working: no Ray, few cases of each
	$(PY) -m pytest -q -n 2 --dist worksteal $(FAST)

test-cluster: .venv/.installed ## run a study over hosts that fail (root; Debian: openssh-server iproute2 rsync)
	$(PY) -m pytest -q -s -n 2 --dist loadfile tests/cluster

gpu-check: OUT = build
gpu-check: .venv/.installed ## check that the core is right and fast on this machine's GPU (8 minutes)
	OUT="$(OUT)" $(PY) -m benchmarks.gpu $(ARGS)

# Interrupted, it goes on with what is there; remove results/embedded.records to start anew.
results: .venv/.installed ## run the studies of results/embedded, and draw their report and pictures
	$(STUDY) --dataset colored_digits --trials 8 --search-seeds 3
	$(STUDY) --dataset two_digits imbalanced_tasks --trials 6
	$(PY) tune.py report $(EMBEDDED)
	$(PY) -m tools.draw_results $(EMBEDDED)

docs: .venv/.installed ## build the guides and API pages into build/docs
	$(PY) -m sphinx -q -W --keep-going -b html docs build/docs

lock: .venv/.installed ## compile pyproject.toml into the requirements files
	$(PY) tools/lock.py
