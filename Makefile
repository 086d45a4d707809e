# make faces            train a generator for MINUTES (default 5) and draw faces; installs the packages first
# make setup            install the packages and nothing else
# make test             run the tests, notebooks included
# make soak             run the tests that take too long for every change
# make lint             check the form of the Python files and the direction of imports; make format mends the form
# make bench            run the benchmarks that take minutes; each prints a table
# make notebooks        execute all chapters in order and keep their outputs
# make book             make a site of the series, in build/book
# make page             make a page that draws faces in any browser, with avatars-64 or RUN=...
# make lab              open the series in JupyterLab
# make export           write the package's lessons from the notebooks
# make house            draw the package's imports, as the README shows them
# make clean-notebooks  remove what an editor leaves in notebooks, execution counts included
# make badges REPO=owner/name   add the address on GitHub: Colab badges, the address to clone
# make gpu              on a machine with a GPU: tests, speeds, ten-minute runs at 64 and 128 px with scores, in parts of nine minutes

MINUTES ?= 5
VENV ?= .venv
BOOK ?= build/book
RUN ?= avatars-64
# The first of these that is Python 3.11 or newer.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

python := $(VENV)/bin/python
ready := $(VENV)/.ready
ready_dev := $(VENV)/.ready-dev

.PHONY: faces setup test soak lint format bench notebooks book page lab export house clean-notebooks badges gpu help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

faces: $(ready)
	@$(python) -m toongan train --preset quickstart --minutes $(MINUTES)

setup: $(ready)
	@echo "Ready. Try: $(python) -m toongan generate --run avatars-64"

# The small nets of the tests gain nothing from a second thread; running two tests at once does help.
test: $(ready_dev)
	@$(python) tests/get_browser.py
	OMP_NUM_THREADS=1 $(python) -m pytest --numprocesses 2 --dist worksteal

soak: $(ready_dev)
	$(python) -m pytest -m soak

lint: $(ready_dev)
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(VENV)/bin/lint-imports

format: $(ready_dev)
	$(python) -m ruff check --fix
	$(python) -m ruff format

bench: $(ready)
	$(python) -m benchmarks.data
	$(python) -m benchmarks.training_step
	$(python) -m benchmarks.training_step --base-channels 16 --batch-size 64
	$(python) -m benchmarks.training_step --image-size 128 --rounds 3
	$(python) -m benchmarks.scale
	$(python) -m benchmarks.roofline

notebooks: $(ready_dev)
	$(python) tools/execute.py

book: $(ready_dev)
	$(python) -m sphinx --quiet --fail-on-warning -b html -c book --doctree-dir $(BOOK)/.doctrees . $(BOOK)
	@echo "Open $(BOOK)/README.html"

page: $(ready)
	@$(python) -m toongan share page --run $(RUN)

lab: $(ready)
	$(VENV)/bin/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_quickstart.ipynb

export: $(ready_dev)
	$(python) tools/export.py

house: $(ready_dev)
	PYTHONPATH=. $(python) tools/house.py

clean-notebooks: $(ready_dev)
	$(VENV)/bin/nbdev-clean --fname notebooks

badges:
	@$(PYTHON) tools/badges.py "$(REPO)"

# Each command takes nine minutes at most; the next one continues a run that was stopped.
gpu: $(ready_dev)
	@$(python) -c "import torch; assert torch.cuda.is_available(), 'no CUDA GPU on this machine'"
	for part in tests speed gpu-64 gpu-64 gpu-128 gpu-128 gpu-anime gpu-anime; do $(python) tools/gpu.py $$part || exit; done

$(ready): requirements.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed; install it, or run make PYTHON=/path/to/python3." >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "error: this Python has no venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@test -x $(python) || { echo "Making $(VENV) with $(PYTHON) ..."; $(PYTHON) -m venv $(VENV); }
	@echo "Installing the packages of requirements.txt: up to 6 GB, one to five minutes, this first time only."
	@$(python) -m pip install --quiet --upgrade pip
	@$(python) -m pip install --requirement requirements.txt
	@touch $@

$(ready_dev): $(ready) requirements-dev.txt
	@$(python) -m pip install --quiet --requirement requirements-dev.txt
	@touch $@
