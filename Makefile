# The daily verbs; CONTRIBUTING.md explains them.
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

FIND_PYTHON = for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	if $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; \
	then echo $$p; break; fi; done
PYTHON ?= $(shell $(FIND_PYTHON))
# Paddle 2.6.2 has no wheel for Python 3.13.
FIND_PYTHON26 = for p in $(PYTHON) python3.12 python3.11 python3.10; do \
	if $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; \
	then echo $$p; break; fi; done

PYTHON26 = $(shell $(FIND_PYTHON26))

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
CORE := $(wildcard _ext/*.h _ext/*.pyx _ext/*.pxd _ext/*.pxi)
CORE_SOURCES := $(wildcard tests/core/*.cpp)
CORE_HEADERS := $(wildcard tests/core/*.h)
JOBS := $(shell nproc)
PACKAGING := setup.py pyproject.toml constraints.txt
CXX ?= g++
CXXFLAGS_CORE := -std=c++17 -O1 -g -Wall -Wextra -Werror -I_ext -Itests/core
ASAN_TESTS := tests/test_conversion.py tests/test_engine.py tests/test_futures.py tests/test_asyncio.py \
	tests/test_asyncio_ends.py tests/test_asyncio_loops.py tests/test_isolation.py tests/test_large_requests.py \
	tests/test_queue_full.py tests/test_infer_many.py

.PHONY: help demo test build lint format test-core test-core-sanitize test-python ci-more \
	test-paddle26 test-asan test-wheel test-openapi test-clients test-system system-tools bench bench-http-envs dist clean

help:
	@echo "make demo    set everything up and run the main job"
	@echo "make test    set everything up and pass all checks and tests"
	@echo "make build   compile the core again after an edit"
	@echo "make lint, format, test-core, test-python, bench, dist, ci-more, clean: see CONTRIBUTING.md"

# --- The environment ------------------------------------------------------------------------------

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "paddleinfer needs Python 3.10 to 3.13; none was found. Name one: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.tools: $(PACKAGING) | $(BIN)/python
	$(PIP) install --upgrade pip
	$(PIP) install -c constraints.txt setuptools cython numpy ml_dtypes
	@touch $@

# Without isolation, so that the next compilation starts at once. Both compile the core, too.
$(VENV)/.demo: $(VENV)/.tools
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[cpu,demo]'
	@touch $@ $(VENV)/.built

$(VENV)/.test: $(VENV)/.tools
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[cpu,demo,test,dev]'
	@touch $@ $(VENV)/.built

# What the benchmarks compare with.
$(VENV)/.bench: $(VENV)/.test
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[cpu,bench]'
	@touch $@

# After an edit in _ext.
$(VENV)/.built: $(CORE) | $(VENV)/.tools
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

# --- The two main commands ------------------------------------------------------------------------

demo: $(VENV)/.demo $(VENV)/.built
	$(BIN)/python -m paddleinfer.demo --out demo-output

test: lint test-core test-python

# --- Parts of them --------------------------------------------------------------------------------

build: $(VENV)/.built

lint: $(VENV)/.test $(VENV)/.built
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint _ext
	$(BIN)/clang-format --dry-run -Werror _ext/*.h tests/core/*.h tests/core/*.cpp
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i _ext/*.h tests/core/*.h tests/core/*.cpp

test-python: $(VENV)/.test $(VENV)/.built
	$(BIN)/python -m pytest $(PYTEST_ARGS)

CXXFLAGS_plain :=
CXXFLAGS_thread := -fsanitize=thread
CXXFLAGS_address := -fsanitize=address,undefined -fno-sanitize-recover=all

# build/core/VARIANT/program from one object a source, so that they compile side by side.
define CORE_PROGRAM
build/core/$(1)/%.o: tests/core/%.cpp $$(CORE) $$(CORE_HEADERS)
	@mkdir -p $$(@D)
	$$(CXX) $$(CXXFLAGS_CORE) $$(CXXFLAGS_$(1)) -c $$< -o $$@

build/core/$(1)/program: $$(patsubst tests/core/%.cpp,build/core/$(1)/%.o,$$(CORE_SOURCES))
	$$(CXX) $$(CXXFLAGS_$(1)) $$^ -o $$@ -lpthread -ldl
endef
$(foreach variant,plain thread address,$(eval $(call CORE_PROGRAM,$(variant))))

test-core:
	$(MAKE) --no-print-directory -j$(JOBS) build/core/plain/program
	build/core/plain/program

test-core-sanitize:
	$(MAKE) --no-print-directory -j$(JOBS) build/core/thread/program build/core/address/program
	build/core/thread/program
	build/core/address/program

# --- What CI does besides -------------------------------------------------------------------------

ci-more: test-core-sanitize test-paddle26 test-asan test-wheel test-openapi test-clients test-system

# Programs that some tests drive, each with its Debian package; without them those tests are skipped.
SYSTEM_TOOLS := promtool:prometheus chromium:chromium chromedriver:chromium-driver wrk:wrk
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
APT := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq

system-tools:
	@missing=; for tool in $(SYSTEM_TOOLS); do \
		command -v $${tool%:*} >/dev/null || missing="$$missing $${tool#*:}"; done; \
	if [ -n "$$missing" ]; then echo "installs$$missing" && $(APT) update && \
		$(APT) install --no-install-recommends $$missing >/dev/null; fi

VENV26 := .venv-paddle26
$(VENV26)/.test: $(PACKAGING) $(CORE) | $(BIN)/python
	@test -n "$(PYTHON26)" || { echo "Paddle 2.6.2 needs Python 3.10 to 3.12; none was found"; exit 1; }
	$(PYTHON26) -m venv $(VENV26)
	$(VENV26)/bin/python -m pip --quiet install --upgrade pip
	$(VENV26)/bin/python -m pip --quiet install 'numpy<2' 'paddlepaddle==2.6.2' setuptools '.[test]'
	@touch $@

# From the installed package: -P keeps ./paddleinfer, which has no compiled core for it, off the path.
test-paddle26: $(VENV26)/.test test-core
	$(VENV26)/bin/python -m pip --quiet install --no-deps --force-reinstall .
	$(VENV26)/bin/python -P -m pytest -o pythonpath=tests \
		--ignore tests/test_packaging.py $(PYTEST_ARGS)

# The sanitizer's dlopen does not look where libpaddle asks (LD_LIBRARY_PATH), its throw needs libstdc++ loaded,
# Paddle itself frees with another operator than it allocates with, and pytest must not swallow the report.
test-asan: $(VENV)/.test
	PADDLEINFER_SANITIZE=address $(BIN)/python setup.py --quiet build --build-base build/asan
	LD_LIBRARY_PATH=$$(echo $(CURDIR)/$(VENV)/lib/python3*/site-packages/paddle/libs) \
		LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
		ASAN_OPTIONS=detect_leaks=0:alloc_dealloc_mismatch=0 PYTHONPATH=$$(echo build/asan/lib*) \
		$(BIN)/python -P -m pytest --capture=sys -o pythonpath=tests $(ASAN_TESTS)

# Clients in environments of their own, for they and Paddle want different protobufs; the server runs in the main one.
.venv-%/.test: tests/clients/%.txt | $(BIN)/python
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip --quiet install -r $<
	@touch $@

test-openapi: $(VENV)/.test $(VENV)/.built .venv-schemathesis/.test
	$(BIN)/python tests/clients/schemathesis_run.py .venv-schemathesis/bin/schemathesis

CLIENTS := tritonclient kserve
build/client-models/.made: tests/clients/export_models.py $(VENV)/.test $(VENV)/.built
	$(BIN)/python $< $(@D)
	@touch $@

test-clients: build/client-models/.made $(CLIENTS:%=.venv-%/.test)
	for client in $(CLIENTS); do .venv-$$client/bin/python -m pytest -c tests/clients/pytest.ini \
		--server-python $(BIN)/python --models build/client-models tests/clients/test_$$client*.py || exit 1; done

test-system: system-tools $(VENV)/.test $(VENV)/.built
	$(BIN)/python -m pytest -m system tests/test_http_page.py tests/test_metrics.py

test-wheel: $(VENV)/.test
	rm -rf build/dist build/wheel-venv
	$(BIN)/python -m build --outdir build/dist
	$(BIN)/python -m venv build/wheel-venv
	build/wheel-venv/bin/python -m pip --quiet install build/dist/*.whl
	cd / && $(CURDIR)/build/wheel-venv/bin/python $(CURDIR)/tests/wheel_smoke.py

# --- And the rest ---------------------------------------------------------------------------------

bench: $(VENV)/.bench $(VENV)/.built
	$(BIN)/python -m benchmarks.bench_engine --json build/bench_engine.json
	$(BIN)/python -m benchmarks.bench_http --json build/bench_http.json
	$(BIN)/python -m benchmarks.bench_diagnosis --json build/bench_diagnosis.json
	$(BIN)/python -m benchmarks.bench_memory --json build/bench_memory.json
	$(BIN)/python -m benchmarks.bench_otel --json build/bench_otel.json
	$(BIN)/python -m benchmarks.bench_overload --json build/bench_overload.json
	$(BIN)/python -m benchmarks.bench_padding --json build/bench_padding.json
	$(BIN)/python -m benchmarks.bench_scheduler --json build/bench_scheduler.json
	$(BIN)/python -m benchmarks.bench_trace --json build/bench_trace.json
	$(BIN)/python -m benchmarks.bench_transport --json build/bench_transport.json

# The servers that bench_http compares with, each in an environment of its own under build/rivals.
bench-http-envs: $(VENV)/.bench
	$(BIN)/python -m benchmarks.http_envs

dist: $(VENV)/.test
	rm -rf dist
	$(BIN)/python -m build

clean:
	rm -rf build dist .venv .venv-paddle26 .venv-schemathesis $(CLIENTS:%=.venv-%) *.egg-info paddleinfer/*.so demo-output
