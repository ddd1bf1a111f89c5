# One entry for everything. A machine needs Python >= 3.11 and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup run test faults check contract bench wheels lock jars clean

setup: $(STAMP)

# Dependencies come from the lock alone, each checked against its hash; then the project itself, editable.
$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Switchboard needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: setup
	@$(BIN)/switchboard up --demo

# Two side by side, a file each: mostly they wait for servers. The long ones come first.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Rounds of the decider, then of the invoker: both are worth as much.
faults: setup
	$(BIN)/python -m tests.faults --rounds $(or $(ROUNDS),100) --seed $(or $(SEED),1)
	$(BIN)/python -m tests.faults.invoker_rounds --rounds $(or $(ROUNDS),100) --seed $(or $(SEED),1)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m services.cli.contract check

# After a change to a message: writes the schemas and the AsyncAPI document anew.
contract: setup
	$(BIN)/python -m services.cli.contract write

bench: setup
	$(BIN)/python -m tests.bench $(if $(BENCH),--only $(BENCH)) --scale $(or $(SCALE),1)

wheels: setup
	$(BIN)/python -m hatchling build -t wheel -d dist
	cd contracts && ../$(BIN)/python -m hatchling build -t wheel -d ../dist

# Needs uv on the PATH, and only when dependencies change.
lock:
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header -o requirements.lock

# Resolves the embedded broker anew: make jars KAFKA=4.4.0
jars: setup
	$(BIN)/python -m services.infrastructure.embedded.jars $(KAFKA)

clean:
	rm -rf $(VENV) .data .bench dist
