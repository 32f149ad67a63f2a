.PHONY: demo test lint check lock peers clean
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

demo: $(VENV)/.ready
	$(BIN)/lungnode demo

test: $(VENV)/.ready peers
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

# The lock holds hashes and names no registry; hatchling is in it, so nothing unlocked is built with.
$(VENV)/.ready: requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	touch $@

# What the tests talk to: installed by apt for root, named for everybody else.
peers:
	@sh tests/install-peers

LOCK := uv pip compile --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    --generate-hashes --no-emit-index-url --no-header --quiet

lock:
	$(LOCK) --extra postgresql --extra s3 pyproject.toml -o requirements.txt
	$(LOCK) --extra postgresql --extra s3 --extra trainer --group dev pyproject.toml -o requirements-dev.txt
	$(LOCK) --constraint requirements.txt --extra postgresql --extra s3 --extra gpu pyproject.toml -o requirements-gpu.txt
	echo hatchling | $(LOCK) --constraint requirements-dev.txt - -o requirements-build.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
