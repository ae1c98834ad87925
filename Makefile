# Each target sets up what it needs in .venv; see tools/setup. `make help` lists the targets.
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo bundle test test-fast fuzz fuzz-api check format bench sim stack docs clean setup-base setup-demo setup-test setup-check

BIN := .venv/bin
PYTEST_ARGS ?=
# Tests share no state, so they run on all cores; more than eight gain little. Some take a thousand
# times as long as others: whoever is done early takes over what another has not begun.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup-base setup-demo setup-test setup-check: setup-%:
	@tools/setup $*

demo: setup-demo  ## generate real events, process them with two workers, verify, plot
	@$(BIN)/python -m demo.run $(DEMO_ARGS)

test: setup-test  ## every test that this machine can run; skips say why (PYTEST_ARGS=...)
	@$(PYTEST) $(PYTEST_ARGS)

test-fast: setup-test  ## tests that start no server and take no long time
	@$(PYTEST) -m "not server and not slow" $(PYTEST_ARGS)

fuzz: setup-test  ## fuzz every parser for ten minutes in all: make fuzz [SECONDS=600]
	@$(BIN)/python -c 'import atheris' 2>/dev/null || { echo "no wheel of atheris for this Python" >&2; exit 2; }
	@$(BIN)/python -m tests.fuzz.campaign --seconds $(or $(SECONDS),600)

fuzz-api: setup-test  ## hold the API to its OpenAPI document for ten minutes: make fuzz-api [OF=serve|head|edge] [SECONDS=600] [SEED=17]
	@$(BIN)/python -m tests.conformance.api_fuzzing --of $(or $(OF),serve) --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

check: setup-check setup-test  ## format, lint, types, import contracts, docs
	@$(BIN)/ruff format --check --quiet . || { echo "next step: make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m tools.check_docs

format: setup-check  ## put the code into the house's format
	@$(BIN)/ruff check --quiet --fix --exit-zero --select I,UP,C4,PIE,RSE . >/dev/null
	@$(BIN)/ruff format .

bench: setup-test  ## measure: make bench NAME=overhead [QUICK=1] [SEEDS="1 2 3"], seeds for placement
	@test -n "$(NAME)" || { echo "say which: make bench NAME=..., one of:" \
	  $(filter-out __init__ harness machine,$(basename $(notdir $(wildcard bench/*.py)))) >&2; exit 2; }
	@$(BIN)/python -m bench.$(NAME) $(if $(QUICK),--quick) $(if $(SEEDS),--seeds $(SEEDS))

SIM_NUMBERS := EDGES TROUBLES REQUESTS CHAINED BUNDLES CRASHES INTERVENTIONS
SIM_SWITCHES := DAMAGED WRONG SILENT
lower = $(shell echo $(1) | tr A-Z a-z)

sim: setup-base  ## simulate the whole service under faults: make sim [SEED=17] [COUNT=1] [EDGES=3 TROUBLES=6 WRONG=1 CHAINED=2 ...]
	@$(BIN)/python -m evstream.testing.simulate --seed $(or $(SEED),1) --count $(or $(COUNT),$(if $(SEED),1,10)) \
	  $(foreach flag,$(SIM_NUMBERS),$(if $($(flag)),--$(call lower,$(flag)) $($(flag)))) \
	  $(foreach flag,$(SIM_SWITCHES),$(if $($(flag)),--$(call lower,$(flag))))

stack: setup-test  ## start PostgreSQL, XRootD, nginx and more, heads and edges, until Ctrl-C (SECURE=1: with TLS and tokens)
	@$(BIN)/python -m tests.federation.up $(if $(SECURE),--secure) $(FOLDER)

bundle: setup-base  ## a relocatable client for CVMFS: make bundle [OUT=build/bundle] [PYTHONS="3.11 3.12 3.13"]
	@$(BIN)/python -m tools.bundle $(or $(OUT),build/bundle) $(foreach one,$(PYTHONS),--python $(one))

docs: setup-check  ## build the pages into build/docs
	@$(BIN)/python -m tools.build_docs

clean:  ## remove what was made here, the virtual environment included
	rm -rf .venv .setup.lock build dist demo/data demo/data.partial-* demo/run demo/.lock demo/dimuon.png demo/receipt.json \
	  bench/inputs bench/results/*.quick.json .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	  .import_linter_cache
	find src tests bench demo examples tools -name __pycache__ -type d -prune -exec rm -rf {} +
