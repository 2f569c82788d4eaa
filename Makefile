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
# How many files of tests run at a time (tests/conftest.py starts the longest first).
WORKERS ?= 2
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# What Qt and Xvfb need on Debian and Ubuntu; Mesa's software renderer comes along.
DEBIAN := xvfb xauth libegl1 libgl1 libglib2.0-0 libfontconfig1 libxkbcommon0 libdbus-1-3 libxkbcommon-x11-0 \
	libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: install demo test test-slow lint docs apt clean

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
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" --ignore=tests/viewer --ignore=tests/gui
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" tests/viewer tests/gui

# What the others rest on, such as that the checks of random sequences do find what is wrong.
test-slow: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL) -m slow --ignore=tests/viewer --ignore=tests/gui
	$(BIN)/python -m pytest $(PARALLEL) -m slow tests/viewer tests/gui

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
