"""Where the origin of an error is noted that its sentence leaves out."""

from __future__ import annotations

import contextlib
import platform
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path

from napari_emda.data.names import in_print
from napari_emda.io.cache import cache_folder
from napari_emda.io.safe_files import open_to_append_text

# Bytes after which the log begins anew: some hundred errors, of which the last ones matter.
_LARGEST = 2**20


def note(error: BaseException) -> Path | None:
    """Append an error with its traceback to the log.

    Returns:
        The log; None if it cannot be written.
    """
    try:
        path = cache_folder().absolute() / "errors.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _LARGEST:
            path.replace(path.with_name("errors-old.log"))
        with open_to_append_text(path) as log:
            log.write(f"{_heading()}\n{in_print(''.join(traceback.format_exception(error)))}\n")
    # Whatever it is, as a full disk: the error itself matters more than its log.
    except Exception:  # noqa: BLE001
        return None
    return path


def internal(error: BaseException) -> str:
    """One sentence on a fault of ours, with the place where its origin is noted."""
    log = note(error)
    where = "" if log is None else f", with '{log}'"
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"Internal error ({text}): this is a fault of napari-emda; please report it{where}."


def _heading() -> str:
    release = "unknown"
    with contextlib.suppress(Exception):
        release = version("napari-emda")
    arguments = in_print(" ".join(sys.argv[1:]))
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"--- {when}, napari-emda {release}, Python {platform.python_version()}, "
        f"{platform.system()}: {arguments}"
    )
