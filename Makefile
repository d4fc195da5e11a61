# `make demo` and `make test` are all a newcomer needs: both make .venv and install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test clean lock audit sbom release oldest newest

demo: $(VENV)/.installed
	$(BIN)/swell demo --out swell-demo

test: $(VENV)/.installed-dev
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/mypy
	# A process a core, and one thread each: threads of several processes would be bound to the same cores. Hypothesis draws the
	# same examples each time; pytest by itself draws new ones.
	OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadfile --hypothesis-profile ci

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Swell needs Python 3.11 or later: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

# What develops and tests Swell is installed from the lock, hash by hash; torch, whose build is the machine's matter, first.
$(VENV)/.installed-dev: pyproject.toml constraints.txt requirements/lock.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --no-deps --require-hashes --requirement requirements/lock.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.installed $@

# CONTRIBUTING.md says what these are for.
lock: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet uv
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/lock.py --upgrade

audit: $(VENV)/.installed-dev
	$(BIN)/python tools/audit.py

sbom:
	$(PYTHON) tools/sbom.py

release: $(VENV)/.installed-dev
	$(BIN)/python tools/reproducible.py --out dist
	$(BIN)/python tools/sbom.py

oldest newest:
	$(PYTHON) tools/versions.py $@ $(if $(TORCH),--torch $(TORCH))

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest build dist src/*.egg-info
