# make demo    the main job: a whole labelling campaign on real tissue, its report and its model
# make test    lint, types and all tests
# make test-oldest   the tests that meet other packages, with their oldest supported releases
# make test-faults   processes and nodes that are lost while a pool is scored or labelled, in minutes
# make mutants   whether tests notice errors put into the code; writes docs/mutation.md
# make bench   the pool pass against its peers; writes docs/performance.md
# make evidence   docs/evidence.md and the README's tables from the kept campaigns (EVIDENCE=--run: anew, in hours)
# make no-silent-difference   ONNX Runtime against torch on networks drawn at random (DRAWS=300)
# make install   the environment that these use; does nothing when it is up to date

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

OLDEST := .venv-oldest

.PHONY: demo test test-oldest test-faults mutants bench evidence no-silent-difference lint install clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo "Installing torch, ONNX Runtime, scikit-learn and the tools of the tests into $(VENV)."
	@echo "That takes 3 to 10 minutes, most of it for torch; nothing outside $(VENV) is changed."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[campaign,cpu,pools,ray,skactiveml,slides,study,test]"
	@touch $@
	@echo "Installed. Next: make demo"

demo: install
	$(BIN)/aift demo --out demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest --numprocesses 2 --dist worksteal --cov --cov-report term:skip-covered --cov-fail-under 95

# modAL 0.4.2 pins a skorch that does not import with current tools: installed without its pins.
$(OLDEST)/installed: pyproject.toml constraints-oldest.txt
	@echo "Installing the oldest supported releases into $(OLDEST), which takes 3 to 10 minutes."
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --disable-pip-version-check --constraint constraints-oldest.txt --editable ".[campaign,cpu,pools,ray,slides,study,test]"
	$(OLDEST)/bin/python -m pip install --quiet --no-deps modAL-python==0.4.2.1
	touch $@

# What meets none of the packages whose oldest releases are named: databases, browsers, HTTP,
# clusters, PyTorch's exporter, processes that are ended, figures.
NOT_OLDEST := \
  campaign/test_label_studio_page.py campaign/test_ledger.py campaign/test_ledger_files.py \
  campaign/test_ledger_rules.py campaign/test_ledger_sharing.py campaign/test_page.py \
  campaign/test_rounds_in_browsers.py campaign/test_security.py campaign/test_server.py \
  campaign/test_write_queue.py cluster onnx/test_derived_weights.py onnx/test_graph.py \
  onnx/test_random_networks.py study/test_evidence.py study/test_planned.py study/test_report.py \
  test_architecture.py

test-oldest: $(OLDEST)/installed
	$(OLDEST)/bin/pytest --numprocesses 2 --dist worksteal tests $(NOT_OLDEST:%=--ignore=tests/%) \
		--deselect tests/test_readme.py::test_the_evidence_is_what_one_command_writes

test-faults: install
	$(BIN)/pytest --numprocesses 2 --dist loadgroup -o python_files='fault_*.py' tests/faults

mutants: install
	$(BIN)/python tests/mutation.py $(MUTANTS)

bench: install
	$(BIN)/python benchmarks/performance.py $(BENCH)

evidence: install
	$(BIN)/python benchmarks/evidence.py $(EVIDENCE)

no-silent-difference: install
	$(BIN)/python tests/random_networks.py --draws $(or $(DRAWS),300)

clean:
	rm -rf $(VENV) $(OLDEST) .mypy_cache .ruff_cache .pytest_cache .hypothesis .mutants .coverage demo
