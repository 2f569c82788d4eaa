"""Models that this user allows to run code while they load, by the SHA-256 of their content.

TorchScript is a program: loading it can do whatever the user can. Such a model is loaded only after
the user has allowed that very file on this computer.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from napari_emda.errors import JobError
from napari_emda.io.atomic import write_text
from napari_emda.io.cache import cache_folder
from napari_emda.io.safe_files import read_file


def allow_code(content: bytes) -> str:
    """Note that the user trusts a model; returns its SHA-256."""
    digest = hashlib.sha256(content).hexdigest()
    known = _known()
    if digest not in known:
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(f"{line}\n" for line in sorted({*known, digest})))
    return digest


def check_code(content: bytes) -> None:
    """Check that the user has allowed a model.

    Raises:
        JobError: that has not happened on this computer, or the cache was emptied since.
    """
    if hashlib.sha256(content).hexdigest() not in _known():
        raise JobError(
            "The model is TorchScript, which can run any program while it loads: if you trust who "
            "made it, allow this file (napari-emda allow FILE)."
        )


def _path() -> Path:
    return cache_folder() / "allowed-models.txt"


def _known() -> set[str]:
    try:
        return set(read_file(_path()).decode("ascii", "replace").split())
    except OSError:  # there is none yet
        return set()
