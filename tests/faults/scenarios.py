"""What the dock does to a project, without the dock: commands of the campaign that have no name.

Each writes a diary outside of the project: a line before a decision and one after it, so that a
kill leaves word of what must be in the project.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from napari_emda.cli import main
from napari_emda.data.box import Box
from napari_emda.errors import EmdaError
from napari_emda.project.project import Project
from napari_emda.project.region import Region
from napari_emda.project.undo import Decision

VALUES = (2, 1)
"""What the patches are painted with, in turns: class 1, background."""


class Diary:
    """Lines that a kill leaves behind: each is handed to the system at once."""

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self, region: Region, state: str, value: int, *, done: bool) -> None:
        line = {"id": region.id, "box": region.box, "state": state, "value": value, "done": done}
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(descriptor, json.dumps(line).encode() + b"\n")
        os.close(descriptor)


def decide(folder: str, diary_path: str) -> None:
    """Accept, paint beside it, undo, redo, skip, draw a patch of one's own and accept it."""
    diary = Diary(diary_path)
    with Project.open(folder, exclusive=True) as project:
        array = project.annotations.require("target")
        suggested = [region for region in project.regions.all() if region.state == "suggested"]
        for region, value in zip(suggested, VALUES, strict=False):
            _accept(project, diary, region, value)
            # A dab in the same chunk, which nothing waits for.
            array[_free(project).slices] = value
        if len(suggested) != len(VALUES):
            return  # a damaged file has lost some: that is all that can be done
        last, value = suggested[-1], VALUES[-1]
        diary.write(last, "suggested", 0, done=False)
        project.history.undo()
        diary.write(last, "suggested", 0, done=True)
        diary.write(last, "accepted", value, done=False)
        project.history.redo()
        diary.write(last, "accepted", value, done=True)
        drawn = project.regions.add("target", _free(project))
        project.regions.on_view = drawn.id
        _accept(project, diary, drawn, 2)


def _free(project: Project, side: int = 8) -> Box:
    """A place without patches."""
    taken = [region.voxels for region in project.regions.all()]
    depth, height, width = project.volumes.shape("target")
    places = np.ndindex(depth, height // side, width // side)
    boxes = (
        Box((z, y * side, x * side), (z + 1, (y + 1) * side, (x + 1) * side)) for z, y, x in places
    )
    free = (box for box in boxes if not any(box.overlaps(other) for other in taken))
    # In a project that lies, there may be none.
    return next(free, Box((0, 0, 0), (1, side, side)))


def _accept(project: Project, diary: Diary, region: Region, value: int) -> None:
    array = project.annotations.require(region.volume)
    painted = np.asarray(array[region.voxels.slices])
    project.regions.decisions.add(Decision(region, painted))
    diary.write(region, "accepted", value, done=False)
    project.annotations.accept(region, np.full(region.voxels.shape, value, np.uint8))
    diary.write(region, "accepted", value, done=True)


def careless(folder: str, diary_path: str) -> None:
    """Accept patches as a program would that waits for no disk and writes over its own files."""
    diary = Diary(diary_path)
    lines = Path(folder) / "regions.jsonl"
    with Project.open(folder, exclusive=True) as project:
        array = project.annotations.require("target")
        for region in project.regions.all():
            if region.state == "suggested":
                array[region.voxels.slices] = 2
                accepted = region.model_copy(update={"state": "accepted"})
                lines.write_text(lines.read_text() + accepted.model_dump_json() + "\n")
                diary.write(region, "accepted", 2, done=True)


def take_back(folder: str, diary_path: str) -> None:
    """Import labels, take the import back, and repeat it."""
    diary = Diary(diary_path)
    with Project.open(folder, exclusive=True) as project:
        labels = np.zeros(project.volumes.shape("target"), np.uint8)
        labels[:, 8:40, 16:48] = 1
        region = project.annotations.import_labels(labels, "target", "background")
        # Half of it is there while it is taken back.
        diary.write(region, "replaced", 0, done=False)
        project.history.undo()
        diary.write(region, "replaced", 0, done=True)
        diary.write(region, "imported", 0, done=False)
        project.history.redo()


def read(folder: str, _: str = "") -> None:
    """Read all of a project, as the dock does when it opens one."""
    with Project.open(folder) as project:
        for region in project.regions.all():
            assert region.voxels
        project.regions.decisions.last()
        for entry in project.volumes.entries:
            project.volumes.open(entry.name)
        for run in project.runs.names():
            opened = project.run(run)
            assert [opened.log(), opened.state, opened.finished, opened.training()]


def mend(folder: str, _: str = "") -> None:
    """Check a project, repair it and read it; what cannot be repaired is one sentence.

    Raises:
        AssertionError: a line of the report is no sentence, or what was repaired cannot be read.
    """
    for options in ((), ("--repair",)):
        status, lines = _reported("check", folder, *options)
        assert status in (0, 2), (status, lines)
        wrong = [line for line in lines if line[-1:] not in ".?" or not line.isprintable()]
        assert not wrong, wrong
    try:
        read(folder)
    except EmdaError as error:
        assert status == 2, f"repaired, and cannot be read: {error}"
        raise


def _reported(*arguments: str) -> tuple[object, list[str]]:
    """Status and lines of a command, run in this process."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            main(list(arguments))
    except SystemExit as exited:
        return exited.code, out.getvalue().splitlines()


def diary_of(path: Path) -> dict[str, list[dict[str, Any]]]:
    """What the diary says of each patch that was decided on, the latest last."""
    entries: dict[str, list[dict[str, Any]]] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            entries.setdefault(entry["id"], []).append(entry)
    return entries
