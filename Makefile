# Set up, try, test and check the project. Needs make, Python 3.11–3.14 and a package index; no root, no GPU.
#   make demo              rendered faces → packed records → CosFace on two ranks → verification of unseen people
#   make demo DATA=FOLDER  the same on your own images (a folder per identity) or on an insightface folder;
#                          MINUTES=10 trains longer, DEMO_RUN=FOLDER puts it elsewhere than demo-run
#   make test              every test that this machine allows;   make test-slow: the long ones too
#   make lint              ruff and mypy;                         make clean: remove what the others made
# PYTHON=/path/to/python3 chooses the Python of .venv.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
INPUTS := constraints.txt setup.cfg pyproject.toml
BASE := $(VENV)/.set-up-base
TEST := $(VENV)/.set-up-test
DATA ?=
MINUTES ?=
DEMO_RUN ?= demo-run
PYTEST_ARGS ?=
# pip draws its bars on a terminal; elsewhere one line a stage is enough.
QUIET := $(shell test -t 1 || echo -q)
PIP := $(BIN)/python -m pip --disable-pip-version-check install $(QUIET) -c constraints.txt

.PHONY: demo setup-test test test-slow lint clean
.DELETE_ON_ERROR:

# $(call stage,what,command): one line before, one after with the seconds.
stage = @echo "set-up: $(1) …"; begun=$$(date +%s); $(2) \
	|| { echo "set-up: $(1) failed; mend what is said above and run make again, it goes on from here" >&2; exit 1; }; \
	echo "set-up: $(1): $$(( $$(date +%s) - begun )) s"

demo: $(BASE)
	@$(BIN)/python -m launch.demo --run "$(DEMO_RUN)" $(if $(DATA),--data "$(DATA)") $(if $(MINUTES),--minutes "$(MINUTES)")

setup-test: $(TEST)

test: $(TEST)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(TEST)
	$(BIN)/python -m pytest -m "slow or not slow" $(PYTEST_ARGS)

lint: $(TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find trainer partial_fc data_pipeline launch tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@usable='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'; \
	if [ -x $(BIN)/python ] && ! $(BIN)/python -c "$$usable"; then \
		echo "set-up: $(VENV) holds a Python older than 3.11 or newer than 3.14; remove it (make clean) and run make again" >&2; exit 1; fi; \
	found=; bare=; for candidate in $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3 python); do \
		"$$candidate" -c "$$usable" >/dev/null 2>&1 || continue; \
		if "$$candidate" -c 'import venv, ensurepip' 2>/dev/null; then found=$$candidate; break; fi; \
		bare=$${bare:-$$candidate}; \
	done; \
	if [ -z "$$found$$bare" ]; then \
		echo "set-up: no Python 3.11 to 3.14 found; install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3" >&2; exit 1; fi; \
	if [ -z "$$found" ]; then \
		version=$$("$$bare" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "set-up: $$bare cannot make virtual environments; install its venv module: apt-get install python$$version-venv" >&2; exit 1; fi; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "set-up: $(VENV) with $$("$$found" --version) …"; "$$found" -m venv $(VENV) || exit 1; fi; \
	touch $@

# torch first: no other package may choose its build. Its pin takes the build that the package index serves.
$(BASE): $(INPUTS) | $(VENV)/.python
	$(call stage,1/2 torch (the largest download),$(PIP) torch setuptools wheel)
	$(call stage,2/2 cosface and what it needs,$(PIP) --no-build-isolation -e .)
	@touch $@

# The original mxnet.recordio cross-checks our records; its own pins (an old numpy) are of no use here.
$(TEST): $(INPUTS) $(BASE)
	$(call stage,1/2 tests$(comma) linters$(comma) face alignment and metric learning,$(PIP) --no-build-isolation -e .[align$(comma)metric$(comma)test$(comma)lint])
	$(call stage,2/2 mxnet's record format for cross-checks,$(PIP) --no-deps mxnet)
	@touch $@

comma := ,
