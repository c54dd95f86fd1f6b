# `make demo` and `make test` need Python >= 3.11 and nothing else; they make .venv themselves.
PYTHON ?= python3
CONSTRAINTS ?= constraints-cpu.txt
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test install clean

$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('ganforge needs Python 3.11 or newer; this is ' + sys.version.split()[0] + '. Try: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[dev]'
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

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
