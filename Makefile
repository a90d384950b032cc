# Each target sets itself up: it works as the first command in a fresh clone with Python 3.11, gcc and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test check gpu docs clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[sim,test,check]'
	touch $(READY)

demo: setup
	$(BIN)/deice demo -o demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --durations=12  # two workers of one thread each: more would fight

check: setup
	$(BIN)/ruff check .
	$(BIN)/ty check
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell

gpu:
	$(PYTHON) -m pytest -m gpu

docs: setup
	$(BIN)/python docs/make_cli.py
	$(BIN)/python docs/make_tree.py

clean:
	rm -rf .venv demo dist
