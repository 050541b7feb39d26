# Targets for people have a description after `##`; a bare `make` prints them.

# The first interpreter that starts and is 3.11, 3.12 or 3.13.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
    && echo $$python && break; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
# Trust what the system trusts, as pip does on a machine behind a TLS proxy.
UV     := UV_SYSTEM_CERTS=1 VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv --quiet --no-config

PACKAGES := libs/protos libs/core libs/backends libs/common libs/client services/intake services/repository \
            services/processor services/gateway services/standalone
SOURCES  := libs/core libs/backends libs/common libs/client services tests bench tools deploy/aws conftest.py
MANIFESTS := $(addsuffix /pyproject.toml,$(PACKAGES))

# Every process would compile all of its modules anew: 3.4 s of processor for a start, in place of 1.5.
unexport PYTHONDONTWRITEBYTECODE

# Arguments for the program behind a target: make run ARGS="--data-dir /srv/sluice"
ARGS ?=
# Start the services that do not run yet; stop them afterwards.
WITH_SERVICES := $(BIN)/python tools/services.py run --
# services-up: 1 for servers that speak TLS alone.
TLS ?=
# End-to-end tests that use services, for the run on services with TLS.
TLS_TESTS := tests/e2e -m "" -k "services or test_phases or test_photos or test_direct_photos or test_tls_everywhere"
# Servers that `make peers` fetches or builds; by default those that take less than a minute.
PEERS ?=
# S3 servers besides SeaweedFS, and the tests that run on them.
S3_PEERS    ?= minio versitygw
S3_TESTS    := tests/integration/s3 tests/contract/objects tests/e2e
REDIS_TESTS := tests/integration/redis tests/contract
# The load generator of `make loadtest`.
K6     ?= k6
# Tests in browsers, one after the other: several at once would measure each other.
BROWSER_TESTS := tests/browsers -m "" -o faulthandler_timeout=1000
WEB := $(BIN)/python tools/web.py
# Workers of the test run: one more than cores, because some wait. 0: one process.
JOBS ?= 3
# test-repeat: rounds, and busy processes beside the tests.
N    ?= 20
BUSY ?= 0

.DEFAULT_GOAL := help
.PHONY: help install install-run run demo services-up services-down test test-faults \
        test-containers test-valkey test-peers test-tls check-images check-deploy deploy-render peers test-model \
        test-repeat test-changed test-long coverage check check-monitoring monitoring fmt lint types layers proto \
        proto-check check-workflows check-aws aws-template audit lock bench \
        bench-quick loadtest clean web-install web-lint web-test web-build web-check web-api web-dev \
        test-browsers screenshots

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- setting up ---------------------------------------------------------------------------------

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Sluice needs Python 3.11, 3.12 or 3.13: install one, or set PYTHON=…" >&2; exit 1; }
	@echo "creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

$(BIN)/uv: requirements/uv.txt | $(BIN)/python
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r $<
	@touch $@

# Install exactly the lock $(1) and the distributions of this workspace. Nothing is resolved, so
# releases made since the lock do not matter.
define install-lock
@$(UV) pip sync --require-hashes $(1)
@$(UV) pip install --no-deps --no-build-isolation $(addprefix -e ,$(PACKAGES))
@$(UV) pip check
endef

$(VENV)/.run: requirements/run.txt $(MANIFESTS) $(BIN)/uv
	@echo "installing what Sluice runs on (once)"
	$(call install-lock,requirements/run.txt)
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "installing the development tools (once)"
	$(call install-lock,requirements/dev.txt)
	@touch $@

install-run: $(VENV)/.run ## Install what Sluice runs on into .venv
install: $(VENV)/.dev ## Install what Sluice runs on and the development tools

# --- running ------------------------------------------------------------------------------------

run: $(VENV)/.run ## Serve on this machine (Ctrl-C stops); data goes to var/data
	@exec $(BIN)/sluice serve --data-dir var/data $(ARGS)

demo: $(VENV)/.run ## Start a server, upload files and photos of this machine, download and compare them
	@$(BIN)/python -m tools.demo $(ARGS)

services-up: $(VENV)/.dev ## Start Redis, MariaDB, Kafka and an S3 server, print settings; TLS=1: with TLS alone
	@$(if $(TLS),SLUICE_SERVICES_TLS=$(TLS)) $(BIN)/python tools/services.py up

services-down: $(VENV)/.dev ## Stop them; their data stays in var/services
	@$(BIN)/python tools/services.py down

peers: $(VENV)/.dev ## Fetch or build further programs: PEERS="minio versitygw apicurio valkey browsers monitoring kustomize"
	@$(BIN)/python tools/services.py get $(PEERS)

# --- checking -----------------------------------------------------------------------------------

test: $(VENV)/.dev ## Start the services that the tests need and run all but the long tests
	$(WITH_SERVICES) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations 10 \
	  -o faulthandler_timeout=400 $(ARGS)

coverage: $(VENV)/.dev ## Run the same and fail below 90 % coverage
	@rm -f .coverage .coverage.*
	@$(MAKE) --no-print-directory test ARGS='--cov --cov-report= $(ARGS)'
	@$(BIN)/python -m coverage report --fail-under=90

test-long: $(VENV)/.dev ## Run the long tests: faults, slow tests, measurements
	$(WITH_SERVICES) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations 10 \
	  -o faulthandler_timeout=1000 -m "long and not slow_fault and not unchanged" $(ARGS)

test-faults: $(VENV)/.dev ## Run every fault test, the slow ones included
	$(WITH_SERVICES) $(BIN)/python -m pytest tests/faults tests/e2e -n $(JOBS) --dist worksteal \
	  -m "slow_fault or fault" --timeout 900 $(ARGS)

test-repeat: $(VENV)/.dev ## Count failures: make test-repeat N=20 PATHS=tests/e2e/test_budget.py BUSY=2
	$(WITH_SERVICES) $(BIN)/python tools/repeat_tests.py --rounds $(N) --busy $(BUSY) $(PATHS) -- \
	  -n $(JOBS) --dist worksteal -m "" $(ARGS)

test-changed: $(VENV)/.dev ## Run the tests that this branch changed three times under load
	$(WITH_SERVICES) $(BIN)/python tools/repeat_tests.py --rounds 3 --busy 2 --minutes 5 \
	  --changed-since auto --most 80 -- -n $(JOBS) --dist worksteal -m "not slow_fault" --timeout 900 \
	  -o faulthandler_timeout=1000 $(ARGS)

test-containers: $(VENV)/.dev ## Run the end-to-end tests on the official images (needs Docker)
	$(BIN)/python -m pytest tests/containers $(ARGS)

test-valkey: $(VENV)/.dev ## Run the Redis tests on Valkey
	SLUICE_SERVICES_REDIS=valkey $(BIN)/python -m pytest $(REDIS_TESTS) -k "redis and not model" -n $(JOBS) $(ARGS)

test-peers: $(VENV)/.dev ## Run the S3 and end-to-end tests on MinIO and versitygw (built when missing)
	@for kind in $(S3_PEERS); do \
	  echo "on $$kind"; \
	  SLUICE_SERVICES_S3=$$kind SLUICE_SERVICES_DIR=var/services-$$kind $(WITH_SERVICES) \
	    $(BIN)/python -m pytest $(S3_TESTS) -m "" -k "not embedded" -n $(JOBS) $(ARGS) || exit 1; \
	done

test-tls: $(VENV)/.dev ## Run the end-to-end tests on services with TLS alone
	SLUICE_SERVICES_TLS=1 SLUICE_SERVICES_DIR=$${SLUICE_SERVICES_DIR:-var/services-tls} $(WITH_SERVICES) \
	  $(BIN)/python -m pytest $(TLS_TESTS) -n $(JOBS) --dist worksteal -o faulthandler_timeout=1000 $(ARGS)

check-images: $(VENV)/.dev ## Build every image, run and break compose.yaml, run the container suite, test on MySQL
	$(BIN)/python -m tools.images check $(ARGS)

check-deploy: $(VENV)/.dev check-workflows ## Check deploy/k8s: rendered anew, policies, schemas (needs kustomize or kubectl)
	$(BIN)/python -m tools.deploy_checks check

deploy-render: $(VENV)/.dev ## Write deploy/k8s/rendered from the overlays; commit the result
	$(BIN)/python -m tools.deploy_checks render

test-model: $(VENV)/.dev ## Run the ledger's model test and the request fuzzer with many more examples
	SLUICE_MODEL_EXAMPLES=10000 SLUICE_FUZZ_INPUTS=20000 $(BIN)/python -m pytest \
	  tests/contract/test_upload_model.py tests/contract/test_request_bytes.py -n $(JOBS) -m "" \
	  --timeout 3600 -o faulthandler_timeout=4000 $(ARGS)

check-monitoring: $(VENV)/.dev ## Run rules, alerts and dashboards on a Prometheus that scrapes Sluice under load
	$(BIN)/python -m tools.monitoring --check
	$(WITH_SERVICES) $(BIN)/python -m pytest tests/monitoring -m "" -n $(JOBS) --dist loadfile -o faulthandler_timeout=1000 $(ARGS)

check: $(VENV)/.dev lint types layers proto-check ## What CI runs: style, types, layers, protos, web/, tests
	@$(WEB) --where-possible test check
	@$(MAKE) --no-print-directory coverage
	@$(MAKE) --no-print-directory test-long
	@$(MAKE) --no-print-directory bench-quick

check-workflows: $(VENV)/.dev ## Lint the workflows and Dockerfiles (builds actionlint once, which needs Go)
	@$(BIN)/python -m tools.workflows

aws-template: $(VENV)-aws/.installed ## Write deploy/aws/template from deploy/aws (needs Node)
	@$(VENV)-aws/bin/python deploy/aws/app.py

check-aws: $(VENV)-aws/.installed $(VENV)-checkov/.installed ## Compare deploy/aws with its templates, lint them (needs Node)
	@$(VENV)-aws/bin/python deploy/aws/app.py --check
	@$(VENV)-aws/bin/cfn-lint deploy/aws/template/*.json
	@$(VENV)-checkov/bin/checkov --config-file deploy/aws/checkov.yaml

audit: $(VENV)-audit/.installed ## Search the locks for known vulnerabilities (asks the registries)
	@set -e; for lock in requirements/*.txt; do \
	  echo "$$lock"; $(VENV)-audit/bin/pip-audit --require-hashes --disable-pip --requirement $$lock; done
	@set -e; for folder in web tests/integration/clients/node; do \
	  echo "$$folder"; (cd $$folder && npm audit --package-lock-only); done

$(VENV)-%/.installed: requirements/%.txt $(BIN)/uv
	@echo "installing $< (once)"
	@$(BIN)/python -m venv $(VENV)-$*
	@$(subst VIRTUAL_ENV=$(abspath $(VENV)),VIRTUAL_ENV=$(abspath $(VENV)-$*),$(UV)) pip sync --require-hashes $<
	@touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/check_style.py
	$(WEB) --where-possible lint

types: $(VENV)/.dev
	$(BIN)/mypy $(SOURCES)

layers: $(VENV)/.dev
	$(BIN)/lint-imports

fmt: $(VENV)/.dev ## Format the sources and apply the linter's fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(WEB) --where-possible fmt

# --- the pages of the gateway -------------------------------------------------------------------

web-install: $(VENV)/.dev ## Install what web/ is built with (Node 20.19 or newer)
	@$(WEB) install

web-lint: $(VENV)/.dev ## Run eslint, prettier and the type checker on web/
	@$(WEB) lint

web-test: $(VENV)/.dev ## Run the unit tests of web/
	@$(WEB) test

web-build: $(VENV)/.dev ## Build web/ into the gateway's package; commit the result
	@$(WEB) build

web-api: $(VENV)/.dev ## Write web/openapi.json and the types of the API client
	@$(BIN)/python tools/web_api.py
	@$(WEB) install
	cd web && npm run --silent api

web-check: $(VENV)/.dev ## Compare the API client and the bundle with their sources; check its size
	@$(WEB) check

web-dev: $(VENV)/.dev ## Serve web/ with reloading; SLUICE_GATEWAY_URL names the gateway behind it
	@$(WEB) dev

test-browsers: $(VENV)/.dev ## Run every test of the pages in real browsers, the long ones included
	$(WITH_SERVICES) $(BIN)/python -m pytest $(BROWSER_TESTS) $(ARGS)

screenshots: $(VENV)/.dev ## Draw the baselines of the screenshots again; look at each before a commit
	SLUICE_TEST_SCREENSHOTS=rewrite $(BIN)/python -m pytest $(BROWSER_TESTS) -k screenshot $(ARGS)

# --- the wire contract --------------------------------------------------------------------------

proto: $(VENV)/.dev ## Generate the Python stubs from protos/
	$(BIN)/buf lint protos
	$(BIN)/python tools/generate_protos.py

proto-check: $(VENV)/.dev
	$(BIN)/buf lint protos
	$(BIN)/python tools/generate_protos.py --check

# --- watching -----------------------------------------------------------------------------------

monitoring: $(VENV)/.dev ## Write dashboards, rules and their tests below deploy/ from tools/monitoring
	@$(BIN)/python -m tools.monitoring

# --- measuring ----------------------------------------------------------------------------------

bench: $(VENV)/.dev ## Measure the gates (GATE=P3 for one scenario, GATE="P1 P2" for some)
	$(WITH_SERVICES) $(BIN)/python -m bench $(addprefix --gate ,$(GATE)) $(ARGS)

bench-quick: $(VENV)/.dev ## Run every gate in about two minutes without judging the figures
	$(WITH_SERVICES) $(BIN)/python -m bench --quick $(addprefix --gate ,$(GATE)) $(ARGS)

loadtest: $(VENV)/.dev ## Run loadtest/k6-upload-test.js on a gateway; needs k6 on the PATH, or K6=PROGRAM
	$(WITH_SERVICES) $(BIN)/python -m bench.loadtest --k6 $(K6) $(ARGS)

# --- upkeep -------------------------------------------------------------------------------------

lock: $(VENV)/.dev ## Resolve the dependencies again into requirements/*.txt
	$(BIN)/python tools/lock.py $(ARGS)

clean: ## Remove the virtual environment and everything generated
	rm -rf $(VENV) $(VENV)-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find . -name '*.egg-info' -prune -exec rm -rf {} + -o -name __pycache__ -prune -exec rm -rf {} +
