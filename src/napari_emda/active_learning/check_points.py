"""Check points of a prediction: drawing and answering them. No torch."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.data.padding import padding_in, padding_of
from napari_emda.data.volume import Volume
from napari_emda.errors import DataError, JobError, SettingsError
from napari_emda.evaluation.check_points import draw, everywhere
from napari_emda.events import TileDone
from napari_emda.project.check_points import (
    MOST_POINTS,
    AskedPoint,
    Draw,
    asked,
)
from napari_emda.project.predictions import Prediction
from napari_emda.project.project import Project
from napari_emda.project.regions import new_id
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_calibration import (
    origin_of,
)
from napari_emda.project.stored_prediction import StoredPrediction


@dataclass(frozen=True)
class CheckedPrediction:
    """The prediction that points are drawn from.

    Attributes:
        run: its folder.
        volume: name of the volume.
        prediction: as it is on the disk.
        origin: of the prediction, see `origin_of`.
    """

    run: RunFolder
    volume: str
    prediction: Prediction
    origin: dict[str, Any]

    @classmethod
    def of(
        cls, project: Project, run: str | None = None, volume: str | None = None
    ) -> CheckedPrediction:
        """A run's prediction of a volume; by default of the first target, by its newest run.

        Raises:
            JobError: it is not complete, or of clusters.
        """
        name = volume or project.volumes.target().name
        folder = project.run(run or project.predictions.newest_run(name))
        prediction = project.predictions.of(folder.name, name)
        stored = StoredPrediction(folder, name)
        if prediction is None or not stored.complete({}):
            raise JobError(
                f"'{name}' is not completely predicted by run '{folder.name}': predict it first."
            )
        if prediction.outputs.are_clusters:
            raise JobError(
                f"The run '{folder.name}' has found clusters, and check points need classes: "
                "annotate some patches, and train a method from it."
            )
        return cls(folder, name, prediction, origin_of(stored))

    def asked(self, project: Project) -> tuple[list[Draw], list[AskedPoint]]:
        """The draws from this prediction, and their points; points count from 1 in this order.

        Raises:
            DataError: a point lies outside of the volume.
        """
        history = project.check_points.read()
        draws, points = asked(history, self.run.name, self.volume, self.origin)
        shape = self.prediction.stored.shape[1:]
        classes = self.prediction.outputs.classes
        outside = any(
            i >= side for point in points for i, side in zip(point.voxel, shape, strict=True)
        )
        if outside or any(drawn.classes != classes for drawn in draws):
            raise DataError(
                f"The check points of '{self.volume}' do not fit it: put the image and the classes "
                "back that they were drawn for, or delete 'check_points.jsonl' in the project."
            )
        return draws, points


def draw_points(
    project: Project, checked: CheckedPrediction, count: int, seed: int
) -> Generator[TileDone, None, Draw]:
    """Draw points from a prediction; record them with `CheckPoints.add`.

    They are drawn from the whole volume without its padding, annotated or not: otherwise the
    estimates would be of another volume. Annotated ones are answered by their annotation.

    Args:
        project: of the prediction.
        checked: the prediction.
        count: number of points.
        seed: of the draw; with the number of earlier draws, so that each draw is another one.

    Yields:
        An event per block.

    Raises:
        SettingsError: the number of points is out of range.
        DataError: all of the volume is padding.
    """
    if not 1 <= count <= MOST_POINTS:
        raise SettingsError(f"{count} points cannot be drawn: choose 1 to {MOST_POINTS}.")
    draws, _ = checked.asked(project)
    volume = project.volumes.open(checked.volume)
    askable = _askable(volume)
    seeds = int(np.random.SeedSequence([abs(seed), len(draws)]).generate_state(1)[0])
    points, counts = yield from draw(
        checked.prediction.stored, count, seeds, askable, checked.volume
    )
    if not points:
        raise DataError(f"All of '{checked.volume}' is padding: there is nothing to check.")
    return Draw(
        id=new_id(),
        run=checked.run.name,
        volume=checked.volume,
        prediction=checked.origin,
        classes=checked.prediction.outputs.classes,
        seed=seed,
        counts=tuple(tuple(row) for row in counts.tolist()),
        points=tuple((*point.voxel, point.best, point.level) for point in points),
    )


def _askable(volume: Volume) -> Any:
    greys = padding_of(volume)
    if not greys:
        return everywhere

    def askable(box: Box) -> NDArray[np.bool_]:
        return ~padding_in(volume, box, greys)

    return askable


def answer(
    project: Project,
    points: Sequence[AskedPoint],
    answers: Mapping[int, int],
    origin: Any = "user",
) -> None:
    """Record answers by the numbers of the points, which count from 1.

    Raises:
        SettingsError: there is no such point, or it is answered already. Nothing is recorded then.
    """
    for number in answers:
        if not 1 <= number <= len(points):
            raise SettingsError(
                f"There is no check point {number}: there are {len(points)}; draw more with --draw."
            )
        if points[number - 1].answer is not None:
            raise SettingsError(
                f"Check point {number} is answered already: take the answer back first (--undo)."
            )
    chosen = {
        (points[number - 1].draw, points[number - 1].index): value
        for number, value in answers.items()
    }
    project.check_points.answer(chosen, origin)
