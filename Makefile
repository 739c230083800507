# Two jobs for a newcomer: `make demo` and `make test`. Each sets up its own .venv from nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs
# every core has a worker already: threads of their own would only take turns
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo test slow peers lint bench setup data clean

setup: $(VENV)/.dev-ready

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.dev-ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@ $(VENV)/.ready

$(VENV)/.peers-ready: pyproject.toml constraints.txt | $(VENV)/.dev-ready
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev,peers]"
	touch $@

demo: $(VENV)/.ready  ## the main job on the embedded twin
	$(BIN)/labctl demo --out $(OUT)

# What is here already is not fetched again. Where a set cannot be had, the tests that use it fail and say so;
# the others still tell.
data: $(VENV)/.dev-ready  ## the data sets that tests use
	-$(BIN)/labctl data fetch fashion-mnist mnist

test: data  ## the everyday tests
	$(PYTEST)

slow: data  ## what is too long for every day
	$(PYTEST) -m slow

peers: $(VENV)/.peers-ready  ## our drivers at other makers' SDKs, simulators and drivers
	$(PYTEST) -rs tests/conformance tests/gige/test_vendors.py tests/drivers \
	  tests/scpi/test_dialogues.py -k "pylon or gentl or micromanager or slmsuite or alp4 or pymeasure"

lint: $(VENV)/.dev-ready  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev-ready  ## the bars, printed side by side
	$(BIN)/python benchmarks/bars.py

clean:
	rm -rf $(VENV)
