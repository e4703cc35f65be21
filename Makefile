# The one definition of building and checking; the README, CI and the commit hook call these.
#
#   make setup   environment in .venv from the lock file, the Rust core built into it
#   make demo    the whole path of an X-ray on this machine, checked
#   make check   style, types, lints
#   make test    all tests, Rust and Python
#   make bench   the benchmark model, results in build/bench.json
#   make bench-kernels [BASE=commit] [FULL=1] [FAIL=1] [FILTER=regex]
#                the Rust kernels, compared with those of another commit
#   make lock    resolve the lock files again (after a change of pyproject.toml)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
NATIVE := secure_infer/native
STAMPS := build/stamps
RUST   := $(shell find $(NATIVE) -name target -prune -o \( -path '*/src/*.rs' -o -name 'Cargo.*' \) -print)

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export TF_CPP_MIN_LOG_LEVEL ?= 3
export CUDA_VISIBLE_DEVICES ?=

.PHONY: setup demo test check format bench bench-kernels lock clean

setup: $(STAMPS)/native

$(STAMPS)/venv: requirements/dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --require-hashes --no-deps -r requirements/dev.txt
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/native: $(STAMPS)/venv pyproject.toml $(RUST)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --locked --quiet
	@mkdir -p $(STAMPS) && touch $@

demo: setup
	$(BIN)/blindread demo

test: setup
	cd $(NATIVE) && cargo test --locked --quiet
	$(BIN)/python -m pytest

check: $(STAMPS)/venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd $(NATIVE) && cargo fmt --all --check
	cd $(NATIVE) && cargo clippy --locked --all-targets --quiet -- -D warnings

format: $(STAMPS)/venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	cd $(NATIVE) && cargo fmt --all

bench: setup
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(BIN)/blindread bench --model densenet121-320 --threads 1 --json build/bench.json

bench-kernels: $(STAMPS)/venv
	$(BIN)/python $(NATIVE)/compare_kernels.py $(if $(BASE),--base $(BASE)) $(if $(FULL),--full) \
	    $(if $(FAIL),--fail) $(if $(FILTER),--filter '$(FILTER)')

LOCK := --quiet --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

lock: $(STAMPS)/venv
	$(BIN)/pip-compile $(LOCK) --all-extras --output-file requirements/dev.txt pyproject.toml
	$(BIN)/pip-compile $(LOCK) --extra hospital --output-file requirements/hospital.txt pyproject.toml
	$(BIN)/pip-compile $(LOCK) --extra developer --output-file requirements/developer.txt pyproject.toml

clean:
	rm -rf build dist $(NATIVE)/target
