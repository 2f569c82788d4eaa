"""The catalogue as it was printed last, kept in the user's cache folder.

A child process prints it, which takes seconds, and it changes only with what is installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

from napari_emda.io.atomic import write_text
from napari_emda.io.cache import cache_folder
from napari_emda.json_text import parse_json

# Other packages add to the catalogue by entry points of these groups.
_GROUPS = tuple(
    f"napari_emda.{kind}" for kind in ("methods", "strategies", "networks", "exporters")
)


def installed() -> str:
    """A name for everything that decides what the catalogue holds; other programs, other name."""
    package = Path(__file__).parents[2]
    # Modules of a development version change without a new version number.
    changes = [(path.stat().st_mtime_ns, path.stat().st_size) for path in package.rglob("*.py")]
    others = [
        (group, entry.name, entry.value, entry.dist.version if entry.dist else "")
        for group in _GROUPS
        for entry in entry_points(group=group)
    ]
    program = (version("napari-emda"), sys.executable, str(package))
    values = [*program, sorted(changes), sorted(others)]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def read(name: str) -> str | None:
    """The line that was kept for what is `installed`; None if there is none."""
    try:
        kept = parse_json(_path().read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return str(kept["line"]) if isinstance(kept, dict) and kept.get("installed") == name else None


def write(name: str, line: str) -> None:
    """Keep a line; a folder that cannot be written only costs time at the next start."""
    with contextlib.suppress(OSError):
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"installed": name, "line": line}))


def _path() -> Path:
    return cache_folder() / "catalogue.json"
