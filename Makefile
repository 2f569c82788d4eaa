# `make demo`, `make test`: set up .venv and run. Nothing is reinstalled until pyproject.toml or constraints.txt change.

SHELL := /bin/bash
PYTHON ?= python3
EXTRAS ?= all,dev
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Small convolutions with many threads on a busy machine are far slower than with one.
OMP_NUM_THREADS ?= 1
export OMP_NUM_THREADS
# Some environments forbid to keep bytecode: then each process compiles the tests, and each child the package.
export PYTHONDONTWRITEBYTECODE :=
# How many files of tests run at a time (tests/conftest.py starts the longest first). One more than most machines for
# continuous integration have cores: tests wait for disks and for children.
WORKERS ?= 3
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# pytest loads the plugins of all that is installed, and rewrites the assertions in all of napari and zarr for them: 2 s
# for each process.
export PYTEST_DISABLE_PLUGIN_AUTOLOAD := 1
PLUGINS := -p xdist -p timeout -p hypothesispytest -p pytest-qt $(if $(filter Linux,$(shell uname)),-p xvfb)
CORE := $(BIN)/python -m pytest $(PARALLEL) $(PLUGINS) --ignore=tests/viewer --ignore=tests/gui
VIEWERS := $(BIN)/python -m pytest $(PARALLEL) $(PLUGINS) -p napari tests/viewer tests/gui

# What Qt and Xvfb need on Debian and Ubuntu; Mesa's software renderer comes along.
DEBIAN := xvfb xauth libegl1 libgl1 libglib2.0-0 libfontconfig1 libxkbcommon0 libdbus-1-3 libxkbcommon-x11-0 \
	libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: install demo test test-slow test-all lint docs apt clean

install: $(INSTALLED)

# With uv when there is one (it compiles only when asked to), else with pip.
$(INSTALLED): pyproject.toml constraints.txt
	@if command -v uv >/dev/null; then \
		[ -x $(BIN)/python ] || uv venv --quiet --python $(PYTHON) $(VENV); \
		UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" uv pip install --quiet --python $(BIN)/python --compile-bytecode \
			-c constraints.txt -e ".[$(EXTRAS)]"; \
	else \
		[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV); \
		PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet -e ".[$(EXTRAS)]"; \
	fi
	@touch $@

demo: $(INSTALLED)
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" != Linux ]; then \
		$(BIN)/napari-emda demo; \
	else \
		$(BIN)/napari-emda demo --headless; \
	fi

# pytest-xvfb brings up Xvfb by itself. Viewers have a process of their own, as they have in life: torch beside Mesa's
# OpenGL can crash, because each brings its own LLVM.
test: $(INSTALLED)
	@$(PYTHON) tools/debian_packages.py $(DEBIAN)
	$(CORE) -m "not slow"
	$(VIEWERS) -m "not slow"

# Long stories, whose parts shorter tests hold, and what the others rest on, such as that the checks of random sequences do
# find what is wrong. Continuous integration runs these, too.
test-slow: $(INSTALLED)
	$(CORE) -m slow
	$(VIEWERS) -m slow

test-all: test test-slow

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/npe2 validate napari-emda

docs: $(INSTALLED)
	@$(BIN)/python -c "import material" 2>/dev/null || $(MAKE) --always-make install EXTRAS=$(EXTRAS),docs
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

apt:
	$(SUDO) apt-get update
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $(DEBIAN) \
		$$($(PYTHON) -c "import ensurepip" 2>/dev/null || echo python3-venv)

clean:
	rm -rf $(VENV)
