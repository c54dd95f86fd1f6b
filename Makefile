# `make demo` and `make test` need Python >= 3.11 and nothing else; they make .venv themselves. `make docs` needs npm too.
PYTHON ?= python3
CONSTRAINTS ?= constraints-cpu.txt
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test docs npm install clean

$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('ganforge needs Python 3.11 or newer; this is ' + sys.version.split()[0] + '. Try: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[dev]'
	touch $@

$(VENV)/docs: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[docs]'
	touch $@

install: $(VENV)/installed

demo: $(VENV)/installed
	$(BIN)/ganforge train dcgan --preset small --overwrite --out runs/demo
	$(BIN)/ganforge evaluate runs/demo

test: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -n 2

docs: npm $(VENV)/docs
	$(BIN)/python tools/refresh_pages.py
	$(BIN)/python tools/build_site.py

npm:
	@command -v npm >/dev/null || { echo "make docs: npm was not found; install Node.js 20 or newer, which brings it"; exit 1; }

clean:
	rm -rf $(VENV) build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
