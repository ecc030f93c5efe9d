# `make demo` shows the main job, `make test` proves it; both make the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test lint faults crash peers bench clean

help:
	@echo "make demo   run the example newsletter against the built-in sandbox"
	@echo "make test   run the tests"
	@echo "make lint   ruff and mypy"
	@echo "make faults what servers and networks do, and what comes of it, in a table (half a minute)"
	@echo "make crash  kill runs hundreds of times (a quarter of an hour); SEEDS=7, CLUSTER=1-4"
	@echo "make peers  kills, refusals, restarts at a real Postfix and Exim (as root, minutes); WHAT=kill"
	@echo "make bench  bulk senders side by side, into docs/performance.md (some minutes)"
	@echo "make clean  remove the environment and what the demo made"

$(READY): pyproject.toml constraints.txt
	@echo "Making the environment in $(VENV) (about half a minute, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[test]'
	@touch $(READY)

demo: $(READY)
	@rm -rf sandbox
	@$(BIN)/bulkmail run campaigns/newsletter.yaml --sandbox --yes

test: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

faults: $(READY)
	@$(BIN)/python -m tests.faults $(ROWS)

crash: $(READY)
	@$(BIN)/python -m tests.crash $(SEEDS) $(if $(CLUSTER),--cluster $(CLUSTER))

peers: $(READY)
	@$(BIN)/python -m tests.peers $(WHAT)

$(VENV)/.bench: $(READY) benchmarks/node/package.json
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[bench]'
	@if command -v npm > /dev/null; then npm install --prefix benchmarks/node \
		--no-package-lock --no-audit --no-fund --silent; fi
	@touch $@

bench: $(VENV)/.bench
	@$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) sandbox dry-run benchmarks/out benchmarks/node/node_modules
