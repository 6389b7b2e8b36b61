# Both commands set up what they need in .venv; a second call starts at once.
PYTHON ?= python3
VENV := .venv

.PHONY: quickstart test clean

quickstart: $(VENV)/quickstart.installed
	$(VENV)/bin/python examples/quickstart.py

test: $(VENV)/test.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest --numprocesses 2

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/quickstart.installed: setup.cfg | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable ".[datasets,plots]"
	touch $@

$(VENV)/test.installed: setup.cfg | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV)
