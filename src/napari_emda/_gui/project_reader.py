"""A reader of ``project.json``: dropped on napari, it opens the dock with its project.

napari asks which reader to use for every folder once any other than its own takes folders, so that
folders are dropped on the dock itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
from qtpy.QtCore import QTimer

from napari_emda.errors import JobError
from napari_emda.io.safe_files import read_file
from napari_emda.json_text import parse_json
from napari_emda.project.packing.manifest import PROJECT
from napari_emda.project.packing.unpack import is_pack

if TYPE_CHECKING:
    from napari_emda._gui.dock import Dock

# What napari takes for "nothing to add": the project adds its layers itself.
_NO_LAYERS: list[tuple[None]] = [(None,)]


def get_reader(path: str | list[str]) -> Callable[[str], list[Any]] | None:
    """The reader of a project; None for files of other programs that have this name."""
    return None if isinstance(path, list) or not is_project_file(Path(path)) else read_project


def read_project(path: str) -> list[Any]:
    """Open a project in the dock of the viewer, once napari has ended its reading."""
    # The project asks, for example, whether to contact a server: napari must not wait for that.
    QTimer.singleShot(0, partial(_open, Path(path).absolute().parent))
    return list(_NO_LAYERS)


def is_project_file(path: Path) -> bool:
    """Whether a file is the ``project.json`` of a project of ours."""
    try:
        values = parse_json(read_file(path))
    except (OSError, JobError, ValueError):
        return False
    return path.name == PROJECT and isinstance(values, dict) and {"classes", "volumes"} <= {*values}


def project_at(path: Path) -> Path | None:
    """What can be opened as a project of a file or folder that was dropped; None for others."""
    if is_project_file(path / PROJECT) or is_pack(path):
        return path
    return path.parent if is_project_file(path) else None


def _open(folder: Path) -> None:
    viewer = napari.current_viewer()
    if viewer is None:
        return
    _dock_of(viewer).data.open_project(folder)


def _dock_of(viewer: napari.Viewer) -> Dock:
    """The dock of a viewer; it is opened if it is not."""
    _, dock = viewer.window.add_plugin_dock_widget("napari-emda", "napari-emda")
    found: Dock = dock
    return found
