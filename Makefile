# make faces            a trained generator and images of faces, in MINUTES (default 5) plus set-up
# make setup            install the packages, nothing else
# make test             the tests, notebooks included
# make soak             the tests that take too long for every change
# make lint             check the Python files' form, and that imports run one way; make format mends the form
# make bench            the benchmarks that take minutes, each with its table
# make notebooks        execute the whole series headless, in order, outputs kept
# make book             the series as a site to read, in build/book
# make page             a page that draws faces in any browser, by the bundled run or RUN=...
# make lab              open the series in JupyterLab
# make export           write the lessons of the package from the notebooks
# make house            draw the package from its imports, as the README shows it
# make clean-notebooks  drop what an editor leaves in them, execution counts included
# make badges REPO=owner/name   point the series to its place on GitHub: Colab badges, the address to clone
# make gpu              on a machine with a GPU: tests, speeds, runs of 10 minutes at 64 and 128 px, judged, in parts of nine minutes

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

# Nets as small as those of the tests gain nothing from a second thread, but two tests at once do.
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

# Commands of at most nine minutes each; a run that is stopped then goes on in the next.
gpu: $(ready_dev)
	@$(python) -c "import torch; assert torch.cuda.is_available(), 'no CUDA GPU on this machine'"
	for part in tests speed gpu-64 gpu-64 gpu-128 gpu-128 gpu-anime gpu-anime; do $(python) tools/gpu.py $$part || exit; done

$(ready): requirements.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed; install it, or run make PYTHON=/path/to/python3." >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "error: this Python has no venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@test -x $(python) || { echo "Making $(VENV) with $(PYTHON) ..."; $(PYTHON) -m venv $(VENV); }
	@echo "Installing the packages of requirements.txt: about 5 GB, one to five minutes, this first time only."
	@$(python) -m pip install --quiet --upgrade pip
	@$(python) -m pip install --requirement requirements.txt
	@touch $@

$(ready_dev): $(ready) requirements-dev.txt
	@$(python) -m pip install --quiet --requirement requirements-dev.txt
	@touch $@
