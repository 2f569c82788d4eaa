"""Which modules an import loads, in fresh interpreters."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "kornia",
    "safetensors",
    "napari",
    "qtpy",
    "PyQt6",
    "PySide6",
    "magicgui",
    "superqt",
    "pyqtgraph",
)
QT = tuple(name for name in HEAVY if name not in ("torch", "kornia", "safetensors"))


def run_code(code):
    """The output of a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout


def loaded(statement, names):
    """Which of these modules a statement loads."""
    show = f"print(*[name for name in {names!r} if name in sys.modules])"
    return run_code(f"import sys\n{statement}\n{show}").split()


def test_importing_the_package_loads_only_the_standard_library():
    """A proxy for a fast import; seconds would depend on the load of the machine."""
    code = (
        "import sys; before = {*sys.modules}; import napari_emda; print(*{*sys.modules} - before)"
    )
    packages = {module.split(".")[0] for module in run_code(code).split()}
    assert packages <= {"napari_emda", *sys.stdlib_module_names}


def test_modules_of_the_viewer_do_not_load_torch():
    names = ["project.project", "project.job_files", "settings", "events", "registry", "errors"]
    names += ["io.read"]
    statement = "import " + ", ".join(f"napari_emda.{name}" for name in names)
    assert loaded(statement, HEAVY) == []


def test_the_command_line_needs_neither_qt_nor_napari():
    modules = ("cli", "jobs.worker", "jobs.execute", "cli.headless_demo")
    statement = "import " + ", ".join(f"napari_emda.{module}" for module in modules)
    assert loaded(statement, QT) == []


def test_the_command_line_shows_help_without_torch():
    statement = (
        "import napari_emda.cli\n"
        "try:\n"
        "    napari_emda.cli.main(['train', '--help'])\n"
        "except SystemExit:\n"
        "    pass"
    )
    assert "torch" not in loaded(statement, HEAVY)


@pytest.mark.parametrize("arguments", [["--headless", "--folder", "new"], []])
def test_the_demo_says_what_comes_before_it_imports_anything_slow(arguments, tmp_path):
    """A proxy for a first line within a second."""
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['numpy', 'torch', 'napari']))\n"
        "from napari_emda.cli import main\n"
        f"main(['demo', *{arguments!r}])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, "DISPLAY": ":0"},
    )
    # Each of these modules is as if it were not installed.
    assert "halted; None in sys.modules" in done.stderr
    assert "about" in done.stderr.splitlines()[0]


def test_public_names_are_imported_on_first_use():
    import napari_emda

    for name in napari_emda.__all__:
        assert getattr(napari_emda, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'train_all'"):
        _ = napari_emda.train_all
