"""What is wrong in a project's folder, and where that goes which is replaced."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_emda.io.atomic import sync, write_text
from napari_emda.io.safe_files import inside

RESCUED = "rescued"
"""The folder of all that was replaced, in the project's."""


@dataclass(frozen=True)
class Reading:
    """A file or folder is being read, which may take a while.

    Attributes:
        place: path in the project's folder.
    """

    place: str


@dataclass(frozen=True)
class Damage:
    """Something that is wrong.

    Attributes:
        place: path in the project's folder.
        problem: what is wrong; a sentence without its end.
        remedy: what to do about it; the end of that sentence.
        mend: mends it; returns a sentence on what was done and what is lost. None if the user has
            to.
    """

    place: str
    problem: str
    remedy: str
    mend: Callable[[Rescue], str] | None = None

    def __str__(self) -> str:
        return f"{self.problem}: {self.remedy}."


Finding = Reading | Damage


class Rescue:
    """Takes what is replaced out of the way; nothing is ever deleted.

    Args:
        project: its folder.

    Attributes:
        folder: for all that is replaced in this repair; made when it is needed.
    """

    def __init__(self, project: Path) -> None:
        self._project = project
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime())
        self.folder = inside(project, RESCUED, f"{stamp}-{uuid.uuid4().hex[:4]}")

    @property
    def used(self) -> bool:
        """Whether anything was taken."""
        return self.folder.exists()

    def take(self, *names: str) -> None:
        """Move a file or folder of the project there, if it exists; a link is moved itself.

        Args:
            names: of the folders and of the file in the project, from the outside in.
        """
        path = self._project.joinpath(*names)
        if not os.path.lexists(path):
            return
        path.rename(self._place(names))
        sync(path.parent)

    def copy(self, *names: str) -> None:
        """Copy a file of the project there, before it is replaced."""
        shutil.copyfile(inside(self._project, *names), self._place(names))

    def _place(self, names: tuple[str, ...]) -> Path:
        place = self.folder.joinpath(*names)
        # A chunk, and later the array that it was part of: each has a place of its own.
        while os.path.lexists(place):
            place = place.with_name(f"{place.name}-{uuid.uuid4().hex[:4]}")
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def write_report(self, lines: list[str]) -> None:
        """Write beside the files what was done with them."""
        if self.used:
            write_text(self.folder / "report.txt", "\n".join(lines) + "\n")
