"""Models of other programs in the dock: a child checks them, because that runs them."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from napari_emda._gui.process.asking import ask
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import JobError
from napari_emda.json_text import parse_json
from napari_emda.project.model_file import SUFFIX

COMMAND = (sys.executable, "-m", "napari_emda")


def converted(
    path: Path,
    folder: Path,
    grid: VoxelGrid | None,
    stop: threading.Event,
) -> tuple[Path, list[str]]:
    """The file of a model of ours that predicts as a package of another program does.

    Call it from a worker thread: the child loads torch and runs the model.

    Args:
        path: of the package.
        folder: where the file is written.
        grid: of the target in nm, for packages that state no sizes; None if there is no target.
        stop: set when the viewer closes.

    Returns:
        Its path, and what the user should know.

    Raises:
        JobError: the package cannot be used; says why.
    """
    out = folder / f"{path.stem}{SUFFIX}"
    out.unlink(missing_ok=True)
    arguments = ["models", "--add", str(path), "--to", str(out), "--json"]
    if grid is not None:
        arguments += ["--image-pixel-size", f"{grid.pixel_size:.17g}"]
        arguments += ["--image-section-distance", f"{grid.spacing[0]:.17g}"]
    try:
        asked = ask([*COMMAND, *arguments], stop)
        if asked.returncode == 0:
            return out, list(parse_json(asked.stdout.strip().splitlines()[-1])["notices"])
        reason = asked.stderr.strip().splitlines()[-1]
    except (OSError, ValueError, LookupError, TypeError):
        reason = f"The package '{path.name}' could not be read: try napari-emda models --add."
    raise JobError(reason)
