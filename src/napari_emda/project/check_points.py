"""The journal of check points: draws, answers, calibrations, and what was taken back.

``check_points.jsonl`` holds a line for each. Nothing in it is ever changed. Every answer is also an
annotation of one voxel, from which the next training learns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_emda.data.box import Box
from napari_emda.data.names import FileName, ShownName
from napari_emda.io.journal import append, read_journal
from napari_emda.io.safe_files import inside
from napari_emda.json_text import parse_json
from napari_emda.project.annotations import Annotations
from napari_emda.project.file import MOST_CLASSES
from napari_emda.project.region import CHECKED, Region
from napari_emda.project.regions import Regions
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_calibration import StoredCalibration, write_calibration

JOURNAL = "check_points.jsonl"
CANNOT_TELL = -1
"""The answer for a point that nobody can tell."""
MOST_POINTS = 10_000
"""Points of one draw: more than anyone answers, and few enough to read in a moment."""
# Voxels of a volume, and of a side.
_MOST_VOXELS = 2**62
_LARGEST_AXIS = 10**10

_Axis = Annotated[int, Field(ge=0, lt=_LARGEST_AXIS)]
_Count = Annotated[int, Field(ge=0, lt=_MOST_VOXELS)]
_Level = Annotated[int, Field(ge=0, le=255)]
_ClassId = Annotated[int, Field(ge=CANNOT_TELL, lt=MOST_CLASSES)]
_Index = Annotated[int, Field(ge=0, lt=MOST_POINTS)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Draw(_Entry):
    """Points that were drawn together.

    Attributes:
        format: of the entry.
        id: unique in its project; also that of the region of its annotations.
        run: whose prediction was asked about.
        volume: name of the volume.
        prediction: see `stored_calibration.origin_of`.
        classes: of the project, background first.
        seed: of the draw.
        counts: voxels by best foreground class and stored share, see
            `napari_emda.evaluation.check_points`.
        points: z, y, x, best foreground class and its share of each.
    """

    format: Literal[1] = 1
    id: FileName
    run: FileName
    volume: FileName
    prediction: dict[str, Any] = Field(default_factory=dict)
    classes: tuple[ShownName, ...] = Field(min_length=2, max_length=MOST_CLASSES)
    seed: int = 0
    counts: tuple[Annotated[tuple[_Count, ...], Field(min_length=256, max_length=256)], ...]
    points: tuple[tuple[_Axis, _Axis, _Axis, _Level, _Level], ...] = Field(
        min_length=1, max_length=MOST_POINTS
    )

    @model_validator(mode="after")
    def _fits(self) -> Draw:
        foreground = len(self.classes) - 1
        if len(self.counts) != foreground:
            raise ValueError("There are not as many counts as classes")
        if any(not 1 <= point[3] <= foreground for point in self.points):
            raise ValueError("A point is of no class")
        return self

    @property
    def box(self) -> Box:
        """The smallest box that holds all points."""
        voxels = np.array([point[:3] for point in self.points])
        low, high = voxels.min(axis=0).tolist(), (voxels.max(axis=0) + 1).tolist()
        return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


class Answers(_Entry):
    """What somebody said of some points of a draw, at once.

    Attributes:
        draw: its id.
        classes: index of a point in its draw, and its class id, or `CANNOT_TELL`.
        annotated: indices of the points that became annotations with it.
        origin: ``user``, ``file`` or ``labels``; ``annotations`` for points that were annotated
            already when they were drawn.
    """

    draw: FileName
    classes: tuple[tuple[_Index, _ClassId], ...]
    annotated: tuple[_Index, ...] = ()
    origin: Literal["user", "file", "labels", "annotations"] = "user"


class Use(_Entry):
    """Another calibration was taken into use, or none.

    Attributes:
        run: of the prediction.
        volume: of the prediction.
        before: that was in use before; None for none.
    """

    run: FileName
    volume: FileName
    before: StoredCalibration | None = None


Step = Answers | Use


def parse_entry(line: bytes) -> Draw | Step | None:
    """Read a line of the journal; None for an undo. ValueError when it is damaged or newer."""
    try:
        values = parse_json(line)
        if "draw" in values:
            return Draw.model_validate(values["draw"])
        if "answers" in values:
            return Answers.model_validate(values["answers"])
        if "use" in values:
            return Use.model_validate(values["use"])
        if values["undo"] == 1:
            return None
    except ValidationError as error:
        raise ValueError(f"Not an entry of check points: {error}") from error
    except (TypeError, KeyError) as error:
        raise ValueError(f"Not an entry of check points: {error}") from error
    raise ValueError("Not an entry of check points")


@dataclass
class PointHistory:
    """What the journal says.

    Attributes:
        draws: by id, in their order.
        answers: by draw and index of the point.
        steps: that can be taken back, the latest last.
    """

    draws: dict[str, Draw] = field(default_factory=dict)
    answers: dict[tuple[str, int], int] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def enter(self, entry: Draw | Step | None) -> None:
        """Follow the journal; what does not fit, next to a damaged line, has no effect."""
        if isinstance(entry, Draw):
            self.draws.setdefault(entry.id, entry)
        elif entry is None:
            if self.steps:
                self._take_back(self.steps.pop())
        elif isinstance(entry, Use):
            self.steps.append(entry)
        elif (drawn := self.draws.get(entry.draw)) is not None:
            if not _answers_fit(entry, drawn):
                return
            self.answers.update({(entry.draw, index): value for index, value in entry.classes})
            # What was annotated before is no decision that could be taken back.
            if entry.origin != "annotations":
                self.steps.append(entry)

    def _take_back(self, step: Step) -> None:
        if isinstance(step, Answers):
            for index, _ in step.classes:
                self.answers.pop((step.draw, index), None)


def _answers_fit(answers: Answers, drawn: Draw) -> bool:
    return all(
        index < len(drawn.points) and value < len(drawn.classes) for index, value in answers.classes
    )


@dataclass(frozen=True)
class AskedPoint:
    """A point of a draw, and the answer.

    Attributes:
        draw: id of its draw.
        index: in its draw.
        voxel: (z, y, x).
        best: the most probable foreground class, from 1.
        level: its stored share against the background.
        answer: a class id, `CANNOT_TELL`, or None while it is open.
    """

    draw: str
    index: int
    voxel: tuple[int, int, int]
    best: int
    level: int
    answer: int | None


class CheckPoints:
    """The check points of a project; on disk after every call.

    Args:
        folder: of the project.
        regions: get a region for the annotations of each draw.
        annotations: get a voxel for each answer.
    """

    def __init__(self, folder: Path, regions: Regions, annotations: Annotations) -> None:
        self._folder = folder
        self._path = inside(folder, JOURNAL)
        self._regions = regions
        self._annotations = annotations

    def read(self) -> PointHistory:
        """What the journal says; damaged lines are passed over."""
        history = PointHistory()
        for line in read_journal(self._path):
            with suppress(ValueError, RecursionError):
                history.enter(parse_entry(line.text or b""))
        return history

    def add(self, drawn: Draw) -> None:
        """Record a draw. Points that are annotated already need not be asked about."""
        lines = [_line("draw", drawn)]
        array = self._annotations.open(drawn.volume)
        if array is not None:
            painted = [int(np.asarray(array[point[:3]])) for point in drawn.points]
            annotated = tuple(
                (index, value - 1)
                for index, value in enumerate(painted)
                if 0 < value <= len(drawn.classes)
            )
            if annotated:
                answers = Answers(draw=drawn.id, classes=annotated, origin="annotations")
                lines.append(_line("answers", answers))
        append(self._path, lines)

    def answer(
        self,
        answers: Mapping[tuple[str, int], int],
        origin: Literal["user", "file", "labels"] = "user",
    ) -> None:
        """Record answers, and annotate the voxels that are not annotated yet.

        Args:
            answers: class id or `CANNOT_TELL` by id of the draw and index of the point.
            origin: who answers.
        """
        history = self.read()
        for name in dict.fromkeys(name for name, _ in answers):
            drawn = history.draws[name]
            chosen = {index: value for (draw, index), value in answers.items() if draw == name}
            voxels = {
                index: (drawn.points[index][:3], value + 1)
                for index, value in chosen.items()
                if value != CANNOT_TELL
            }
            free = self._annotations.free(drawn.volume, [voxel for voxel, _ in voxels.values()])
            taught = [index for index, is_free in zip(voxels, free, strict=True) if is_free]
            entry = Answers(
                draw=name,
                classes=tuple(chosen.items()),
                annotated=tuple(taught),
                origin=origin,
            )
            append(self._path, [_line("answers", entry)])
            self._annotations.mark(drawn.volume, [voxels[index] for index in taught])
            self._record_region(drawn, history, {*chosen})

    def undo(self, run: str, volume: str) -> Step | None:
        """Take the latest answers or calibration back.

        Args:
            run: whose prediction is checked. What was done last for another one stays.
            volume: of the prediction.

        Returns:
            What was taken back; None if there was nothing.
        """
        history = self.read()
        if not history.steps:
            return None
        step = history.steps[-1]
        of = step if isinstance(step, Use) else history.draws[step.draw]
        if (of.run, of.volume) != (run, volume):
            return None
        append(self._path, [json.dumps({"undo": 1})])
        if isinstance(step, Use):
            write_calibration(RunFolder.of(self._folder, step.run), step.volume, step.before)
            return step
        drawn = history.draws[step.draw]
        values = dict(step.classes)
        self._annotations.unmark(
            drawn.volume,
            [(drawn.points[index][:3], values[index] + 1) for index in step.annotated],
        )
        history.enter(None)
        self._record_region(drawn, history, set())
        return step

    def note_use(self, use: Use, now: StoredCalibration | None) -> None:
        """Use a calibration from now on, or none, so that `undo` takes it back."""
        append(self._path, [_line("use", use)])
        write_calibration(RunFolder.of(self._folder, use.run), use.volume, now)

    def _record_region(self, drawn: Draw, history: PointHistory, new: set[int]) -> None:
        """Let training know of the annotations of a draw, or that there are none any more."""
        answered = new or {index for name, index in history.answers if name == drawn.id}
        state = "partial" if answered else "replaced"
        region = next((r for r in self._regions.all() if r.id == drawn.id), None)
        if region is None:
            region = Region(
                id=drawn.id,
                volume=drawn.volume,
                box=str(drawn.box),
                state="replaced",
                strategy=CHECKED,
                round=self._regions.round,
            )
        if region.state != state:
            self._regions.record(region.model_copy(update={"state": state}))


def asked(
    history: PointHistory, run: str, volume: str, prediction: Mapping[str, Any]
) -> tuple[list[Draw], list[AskedPoint]]:
    """The draws from a prediction as it is now, and their points in the order of the draws."""
    draws = [
        drawn
        for drawn in history.draws.values()
        if (drawn.run, drawn.volume, drawn.prediction) == (run, volume, prediction)
    ]
    points = [
        AskedPoint(
            drawn.id,
            index,
            (point[0], point[1], point[2]),
            point[3],
            point[4],
            history.answers.get((drawn.id, index)),
        )
        for drawn in draws
        for index, point in enumerate(drawn.points)
    ]
    return draws, points


def _line(word: str, entry: BaseModel) -> str:
    return json.dumps({word: entry.model_dump(mode="json")})


def in_words(points: Sequence[AskedPoint], answers: Answers) -> str:
    """Which answers these are, such as "the answer to point 3"."""
    indices = {index for index, _ in answers.classes}
    numbers = [
        number
        for number, point in enumerate(points, start=1)
        if point.draw == answers.draw and point.index in indices
    ]
    if len(numbers) == 1:
        return f"the answer to point {numbers[0]}"
    return f"{len(answers.classes)} answers"
