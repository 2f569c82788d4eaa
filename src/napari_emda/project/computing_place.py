"""Where this user lets the jobs of a project compute.

It is kept on this computer and not in the project: a project from somebody else must not send work,
or the user's name, to a scheduler of their choice.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from napari_emda.errors import EmdaError, JobError
from napari_emda.io.atomic import write_text
from napari_emda.io.cache import cache_folder
from napari_emda.io.safe_files import read_file
from napari_emda.json_text import parse_json
from napari_emda.settings.where import Where

# Projects that are remembered: of more, nobody expects it.
_MOST = 200


def computing_place(project: Path) -> Where:
    """Where the jobs of a project compute; in one process if the user has said nothing else."""
    stored = _places().get(str(project.resolve()))
    # A file that was changed by hand, or by another version.
    with contextlib.suppress(EmdaError):
        if isinstance(stored, dict):
            where = Where.parse(stored)
            where.check()
            return where
    return Where()


def keep_computing_place(project: Path, where: Where) -> None:
    """Note where the jobs of a project compute from now on."""
    places = _places()
    places.pop(str(project.resolve()), None)
    if where.elsewhere:
        places[str(project.resolve())] = where.model_dump(exclude_defaults=True)
    # The latest come last.
    latest = dict(list(places.items())[-_MOST:])
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(latest, indent=1))


def _path() -> Path:
    return cache_folder() / "where.json"


def _places() -> dict[str, Any]:
    try:
        places = parse_json(read_file(_path()).decode("utf-8"))
    except (OSError, ValueError, JobError):
        return {}
    return places if isinstance(places, dict) else {}
