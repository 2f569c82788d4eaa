"""Where results may be written: never over the project, nor over the images that it uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from napari_emda.errors import DataError


def refuse_own(path: Path, project: Path, inputs: Iterable[Path]) -> None:
    """Check that a result does not take the place of anything that the project needs.

    Files and folders are compared as the disk knows them, so that links, hard links, ``..`` and
    upper and lower case make no difference.

    Args:
        path: where the result is to be written; need not exist.
        project: folder of the project.
        inputs: images and labels of its volumes.

    Raises:
        DataError: the path is in the project or contains it, or is, contains or lies in an input.
    """
    above = set(_identities(path))
    itself = _identity(path)
    if _identity(project) in above or itself in set(_identities(project)):
        raise DataError(f"'{path}' is part of the project: choose a place outside of its folder.")
    for file in inputs:
        if _identity(file) in above or itself in set(_identities(file)):
            raise DataError(
                f"'{path}' would replace or change '{file}', which the project uses: choose "
                "another place."
            )


def _identities(path: Path) -> Iterator[tuple[int, int]]:
    """A path and the folders that it lies in, by its name and by what the name leads to."""
    real = path.resolve()
    # The parent of the name as well: of a link, that is where the link lies.
    named = path.parent.resolve()
    for place in (path, real, *real.parents, named, *named.parents):
        identity = _identity(place)
        if identity is not None:
            yield identity


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of what a path leads to; None if there is nothing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
