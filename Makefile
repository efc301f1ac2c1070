# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
# Exact versions that are known to work; `make demo CONSTRAINTS=` takes whatever is newest.
CONSTRAINTS ?= constraints.txt
EXTRAS ?= dev,all
comma := ,
WORKERS ?= 2
# The installer of Python 3.11 takes half a minute more to choose the versions than a newer one.
# Of the libraries' 25,000 files few are ever imported: bytecode is made then, which saves a minute here. Without it every process
# would compile PyTorch again.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile --quiet $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

.DEFAULT_GOAL := help
.PHONY: collected help demo request-demo pages package test check lint types bench bench-limits docs clean fix test-fast test-slow test-nightly test-processors test-runtime test-lowest verify-types

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up $(VENV) (a few minutes the first time) ..."
	$(PYTHON) -m venv $(VENV)
	-@$(PIP_INSTALL) --upgrade pip
	@touch $@

# Two installers at once need half the time, where neither takes what the other does: here large packages without those that they need,
# there others with theirs. What is missing then, or in a version that does not go with the rest, the whole installation sees to.
$(VENV)/.large: | $(VENV)/.created
	@$(PIP_INSTALL) --no-deps torch torchvision torch_geometric transformers timm rdkit tensorboard ruff mypy & \
		$(PIP_INSTALL) --no-warn-conflicts duckdb mlflow-skinny optuna polars pyarrow ray scikit-learn wandb; wait; touch $@

# The packages to run, without the tools to develop.
$(VENV)/.runtime: pyproject.toml $(CONSTRAINTS) | $(VENV)/.created
	$(PIP_INSTALL) -e .
	@touch $@

# Everything at once: these are the packages to run as well.
$(VENV)/.develop: pyproject.toml $(CONSTRAINTS) | $(if $(filter dev$(comma)all,$(EXTRAS)),$(VENV)/.large,$(VENV)/.created)
	$(PIP_INSTALL) -e ".[$(EXTRAS)]"
	@touch $(VENV)/.runtime $@

demo: $(VENV)/.runtime ## run the proof of concept: fourteen methods against retraining, on real digits
	$(BIN)/python main.py configs/proof_of_concept.jsonc --seeds 0-4 --executor processes

# Certificates need the extra `certify`.
request-demo: $(VENV)/.runtime ## answer three deletion requests on real digits: ledger, certificates, a page; a flipped bit is found
	$(PIP_INSTALL) -e ".[certify]"
	$(BIN)/python examples/deletion_requests.py

# Neighbours stay on one worker, so that what a file prepares is prepared once.
PYTEST := $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --durations 12

# Beside types the tests are collected by one process, so that two workers find all bytecode and do not make it twice.
test: $(VENV)/.develop ## everything that CI runs, from nothing
	$(MAKE) -j 2 lint types collected
	$(PYTEST)

collected: $(VENV)/.develop
	@$(BIN)/python -m pytest -q --collect-only > /dev/null 2>&1 || true # the tests themselves say what is wrong

test-fast: $(VENV)/.develop
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.develop
	$(PYTEST) -m slow

test-nightly: $(VENV)/.develop ## the rest of the matrices of which `make test` has a part
	$(PYTEST) -m nightly
	ERASURE_TEST_EXAMPLES=300 ERASURE_PROPERTY_EXAMPLES=1000 $(PYTEST) -m hypothesis

# The numeric tests with the kernels of other processors: no test may know more than these have in common. With two threads run those
# whose operations are large enough to be shared; two a worker are more than two cores have, so threads that wait must sleep.
THREADED := tests/golden tests/unit/training/test_loop.py tests/unit/training/test_ensemble.py \
	tests/unit/unlearners/test_second_order.py tests/unit/unlearners/test_scrub.py \
	tests/unit/unlearners/test_salun.py tests/unit/unlearners/test_weight_edits.py tests/unit/measures/test_relearning.py tests/unit/measures/test_guards.py tests/unit/measures/test_flops.py tests/e2e/test_trace.py \
	tests/e2e/test_vision_and_text.py
NUMERIC := $(THREADED) tests/unit/functional
NUMERIC_RUN := $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow"

test-processors: $(VENV)/.develop ## the numeric tests with the instruction sets of other processors, one and two threads
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE $(NUMERIC_RUN) $(NUMERIC)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
		ERASURE_TEST_THREADS=2 OMP_WAIT_POLICY=passive $(NUMERIC_RUN) $(THREADED)

# The packages of a user, without those of developers and extras: the demo ends with its report, and prints what the README shows.
RUNTIME := $(VENV)-runtime
test-runtime: ## the demo in an environment of its own with runtime dependencies alone
	$(MAKE) VENV=$(RUNTIME) $(RUNTIME)/.runtime
	folder=$$(mktemp -d) && $(CURDIR)/$(RUNTIME)/bin/python main.py configs/proof_of_concept.jsonc --seeds 0-4 --executor processes --store $$folder/store --output runs/proof_of_concept > $$folder/printed \
		&& $(RUNTIME)/bin/python .ci/readme.py < $$folder/printed && test -s runs/proof_of_concept/report.html && rm -r $$folder

# The lowest versions that pyproject.toml allows, in an environment of its own: the demo's data, and the tests of what libraries do for us.
LOWEST := $(VENV)-lowest
LOWEST_TESTS := tests/golden tests/unit/records tests/unit/store tests/unit/config tests/unit/functional tests/unit/certificates \
	tests/unit/accounting tests/unit/reports/test_exports.py tests/unit/data/test_partitions.py tests/unit/cli/test_query_command.py \
	tests/unit/experiment tests/unit/stages
test-lowest: ## the tests of libraries with the lowest versions that are allowed
	test -d $(LOWEST) || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --disable-pip-version-check --no-compile --quiet -c constraints-lowest.txt \
		-e ".[certify,query,tune]" hypothesis jsonschema pytest pytest-socket pytest-timeout pytest-xdist
	$(LOWEST)/bin/python -m erasure run configs/breast_cancer.jsonc --store $(LOWEST)/store --output $(LOWEST)/run
	$(LOWEST)/bin/python -m pytest -q -n $(WORKERS) $(LOWEST_TESTS)

verify-types: $(VENV)/.develop ## whether every public name has a type
	$(PIP_INSTALL) basedpyright
	$(BIN)/python .ci/verify_types.py

check: $(VENV)/.develop ## lint, types, import contracts, dependencies, spelling
	$(MAKE) -j 2 lint types

lint: $(VENV)/.develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/deptry src
	$(BIN)/typos

types: $(VENV)/.develop
	$(BIN)/mypy

fix: $(VENV)/.develop ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.develop ## speed against an older build; a row that is a tenth slower fails
	$(BIN)/python benchmarks/baseline.py

bench-limits: $(VENV)/.develop ## every other benchmark against its own limits (hours)
	$(BIN)/python benchmarks/run.py

$(VENV)/.docs: $(VENV)/.runtime
	$(PIP_INSTALL) -e ".[docs]"
	@touch $@

pages: $(VENV)/.develop ## regenerate the pages that are made from the code
	$(BIN)/python docs/generate.py

docs: $(VENV)/.docs ## build the documentation into site/; every link is checked
	$(BIN)/python docs/generate.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean: ## remove everything that the commands above made
	rm -rf $(VENV) $(VENV)-runtime $(VENV)-lowest .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis site

package: $(VENV)/.develop ## build wheel and source distribution, check them, and try the wheel alone
	rm -rf dist build
	$(PIP_INSTALL) build twine
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	rm -rf build/smoke && $(PYTHON) -m venv build/smoke
	build/smoke/bin/python -m pip install --disable-pip-version-check --quiet $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) dist/*.whl
	cd build/smoke && bin/erasure doctor && bin/erasure run ../../configs/breast_cancer.jsonc --store store --output out
