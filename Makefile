# All commands set up what they need in .venv; a second call starts at once.
PYTHON ?= python3
VENV := .venv

# Of the order of tests. Name it to repeat a failure.
SEED := $(shell date +%s)
PORTABILITY := -m pytest --numprocesses 2 --random-order \
    --random-order-bucket=global --random-order-seed=$(SEED)

# The lowest versions that setup.cfg allows, in an environment of their own.
LOWEST := .venv-lowest
MAIN_PATHS := $(addprefix tests/test_,$(addsuffix .py,smoothed_model training \
    data_dependent_training denoised soft_voting votes inputs groups \
    input_noise randomize rse attacks segmentation multi_label regression \
    detection from_function memory_file memory_server monotone_cells mdeq \
    equilibrium_gradients serialized_bounds compare six_columns report plan \
    export serving cluster cli datasets golden own_family))

.PHONY: quickstart test test-slow test-lowest test-portability docs clean

quickstart: $(VENV)/quickstart.installed
	$(VENV)/bin/python examples/quickstart.py

test: $(VENV)/test.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest --numprocesses 2 -m "not slow"

# All that takes longer: networks that settle, processes that are killed,
# tutorials from start to end, clusters.
test-slow: $(VENV)/test.installed
	$(VENV)/bin/python -m pytest --numprocesses 2 -m slow

# The main paths with the lowest versions of the core and of all extras. Ray
# 2.40 leaves files open; new versions of pyarrow, which it reads datasets by,
# want NumPy 2 without saying so to pip.
test-lowest: $(LOWEST)/test.installed
	$(LOWEST)/bin/python -m pytest --numprocesses 2 -m "not slow" \
	    -W ignore::ResourceWarning $(MAIN_PATHS)

# All tests in a random order, with the arithmetic of other processors: oneDNN
# off and on, its instructions held down, one thread and two, Eigen's own matrix
# products, XLA's code for SSE. TensorFlow has no thread pool that
# OMP_NUM_THREADS would size. All runs are made, also after one that fails.
test-portability: $(VENV)/test.installed
	@echo "To repeat this order: make $@ SEED=$(SEED)"
	failed=0; \
	TF_ENABLE_ONEDNN_OPTS=0 ONEDNN_MAX_CPU_ISA=SSE41 \
	    TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 \
	    $(VENV)/bin/python $(PORTABILITY) || failed=1; \
	TF_ENABLE_ONEDNN_OPTS=1 ONEDNN_MAX_CPU_ISA=AVX2 \
	    TF_NUM_INTRAOP_THREADS=2 TF_NUM_INTEROP_THREADS=2 \
	    $(VENV)/bin/python $(PORTABILITY) || failed=1; \
	TF_ENABLE_ONEDNN_OPTS=1 ONEDNN_MAX_CPU_ISA=SSE41 \
	    TENSORFLOW_USE_CUSTOM_CONTRACTION_KERNEL=0 \
	    XLA_FLAGS=--xla_cpu_max_isa=SSE4_2 \
	    TF_NUM_INTRAOP_THREADS=2 TF_NUM_INTEROP_THREADS=1 \
	    $(VENV)/bin/python $(PORTABILITY) || failed=1; \
	exit $$failed

# The site, into site/. It runs the code of the guides.
docs: $(VENV)/docs.installed
	NO_MKDOCS_2_WARNING=1 TF_CPP_MIN_LOG_LEVEL=2 $(VENV)/bin/mkdocs build --strict

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/quickstart.installed: setup.cfg | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable ".[datasets,plots]"
	touch $@

$(VENV)/docs.installed: setup.cfg | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable ".[docs]"
	touch $@

$(VENV)/test.installed: setup.cfg | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable ".[test]"
	touch $@

$(LOWEST)/test.installed: setup.cfg
	$(PYTHON) -m venv $(LOWEST)
	sed -nE 's/^ +([a-z-]+)(\[[a-z,]+\])?>=([0-9.]+).*/\1==\3/p' setup.cfg \
	    > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --editable \
	    ".[datasets,probability,plots,attacks,memory-server,cluster,serve]" \
	    httpx2 pandas pytest pytest-xdist "pyarrow<18" \
	    --constraint $(LOWEST)/constraints.txt
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) site
