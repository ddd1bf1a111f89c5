# The entry point for every task. Needs Python >= 3.11 and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Other code must not take the place of ours.
unexport PYTHONPATH

.PHONY: setup run cluster test clients faults attacks image check contract bench wheels lock jars clean

setup: $(STAMP)

# Installs exactly the locked dependencies, checked against their hashes, and then the project itself in editable mode.
$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Switchboard needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	@echo "Installing into $(VENV), once: some 430 MB, which takes a few minutes …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m services.gateway.console.assets
	-$(BIN)/python -m services.infrastructure.embedded.startup_cache
	@touch $@

run: setup
	@$(BIN)/switchboard up --demo

# The same on three brokers, with replicas, TLS between all, and a directory of its own.
cluster: setup
	@SWITCHBOARD_DATA_DIR=$(or $(SWITCHBOARD_DATA_DIR),.data-cluster) $(BIN)/switchboard up --demo --cluster

# Three workers, one file at a time each: the tests mostly wait for servers. The longest files run first.
test: setup
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# The TypeScript client: installed by its lock file, generated from the contract, type-checked, built to dist/, and tested
# on a running installation. Node and npm come with Python's packages; what the client needs comes from npm's registry.
clients: setup
	$(BIN)/python -m pytest -q tests/clients/check_typescript.py tests/clients/check_contract_tools.py

# Seeded rounds of faults: ROUNDS against the decider, a third as many against each other kind. KIND= plays one kind;
# KIND=cluster plays rounds on three brokers, half a minute each; KIND=restarts restarts every broker and every service.
faults: setup
	$(BIN)/python -m tests.faults $(if $(KIND),--kind $(KIND)) --rounds $(or $(ROUNDS),100) --seed $(or $(SEED),1)

# One tenant attacks another: the second tenant's p99 alone and beside each attack, and each service's memory.
attacks: setup
	$(BIN)/python -m tests.attacks $(foreach attack,$(ATTACK),--attack $(attack))

# The image without a Docker engine: the Dockerfile's steps in a chroot. Needs root, debootstrap and some minutes.
image: setup
	$(BIN)/python -m pytest -q tests/image/checks.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m services.cli.contract check
	$(BIN)/python -m pytest -q tests/unit/deploy

# Run after changing a message: regenerates the schemas and the AsyncAPI document.
contract: setup
	$(BIN)/python -m services.cli.contract write

# BROKERS=3 measures on three brokers with replicas.
bench: setup
	$(BIN)/python -m tests.bench $(if $(BENCH),--only $(BENCH)) $(if $(BROKERS),--brokers $(BROKERS)) --scale $(or $(SCALE),1)

wheels: setup
	$(BIN)/python -m hatchling build -t wheel -d dist
	cd contracts && ../$(BIN)/python -m hatchling build -t wheel -d ../dist

# Needs uv on the PATH. Run it when dependencies change.
lock:
	uv pip compile pyproject.toml --extra traces --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header -o requirements.lock
	uv pip compile pyproject.toml --extra traces --group build -c requirements.lock --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header -o deploy/requirements.lock

# Resolves the jars of the embedded broker again: make jars KAFKA=4.4.0
jars: setup
	$(BIN)/python -m services.infrastructure.embedded.jars $(KAFKA)

clean:
	rm -rf $(VENV) .data .data-cluster .bench dist clients/*/node_modules clients/*/dist
