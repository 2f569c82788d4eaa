"""Which patches of the target to annotate next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_emda import settings as base
from napari_emda.data.volume import Array, Box, Volume
from napari_emda.errors import DataError
from napari_emda.events import Event, Notice, Suggested
from napari_emda.predict import Prediction, Predictor, predict
from napari_emda.registry import Registry
from napari_emda.settings import PredictSettings, QuerySettings

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """All patches that may be suggested: every section, on a grid four times finer than the patch.

    Attributes:
        sections: number of sections.
        rows, columns: first voxel of the patches along y and x; the last patch ends with the volume.
        patch: side in voxels.
    """

    sections: int
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    patch: int

    @classmethod
    def of(cls, shape: tuple[int, int, int], patch: int) -> Candidates:
        """For a volume of this shape; DataError when it is smaller than a patch."""
        if min(shape[1:]) < patch:
            raise DataError(
                f"The target is {shape[1]} x {shape[2]} pixels, smaller than one {patch}-pixel patch: choose patch "
                f"size {min(shape[1:])} or less."
            )
        starts = [np.unique(np.append(np.arange(0, n - patch, max(1, patch // 4)), n - patch)) for n in shape[1:]]
        return cls(shape[0], starts[0], starts[1], patch)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an array with one score a candidate."""
        return self.sections, len(self.rows), len(self.columns)

    def box(self, index: tuple[int, int, int]) -> Box:
        """The voxels of a candidate."""
        z, y, x = index[0], int(self.rows[index[1]]), int(self.columns[index[2]])
        return Box((z, y, x), (z + 1, y + self.patch, x + self.patch))

    def inside(self, box: Box) -> NDArray[np.bool_]:
        """Which candidates lie wholly inside a box; of the shape of the scores."""
        (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
        z = np.arange(self.sections)
        rows = (self.rows >= y0) & (self.rows + self.patch <= y1)
        columns = (self.columns >= x0) & (self.columns + self.patch <= x1)
        return ((z >= z0) & (z < z1))[:, None, None] & rows[:, None] & columns[None, :]

    def near(self, box: Box, sections: int) -> tuple[slice, NDArray[np.bool_], NDArray[np.bool_]]:
        """Candidates that overlap a box in the plane and lie within so many sections of it."""
        (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
        rows = (self.rows < y1) & (self.rows + self.patch > y0)
        columns = (self.columns < x1) & (self.columns + self.patch > x0)
        return slice(max(0, z0 - sections), z1 + sections), rows, columns

    def means(self, values: Array, z: int) -> Scores:
        """Mean of one section of a (z, y, x) array over every candidate, rows x columns."""
        integral = np.pad(np.asarray(values[z], dtype=np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        a, b = self.rows[:, None], self.columns[None, :]
        c, d = a + self.patch, b + self.patch
        return (integral[c, d] - integral[a, d] - integral[c, b] + integral[a, b]) / self.patch**2


class Strategy(ABC):
    """Base of all strategies: its settings plus `score`. The docstring's first line is its sentence in the dock.

    Args:
        settings: of the class's own ``Settings``.
    """

    name: ClassVar[str]
    needs_prediction: ClassVar[bool] = True

    class Settings(base.Settings):
        """Settings of the strategy; none here."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def score(self, candidates: Candidates, uncertainty: Array | None, seed: int) -> Scores:
        """One score a candidate (`Candidates.shape`), the higher the sooner; NaN is never picked.

        Args:
            candidates: what can be suggested.
            uncertainty: uint8 (z, y, x), 255 times the relative entropy, when `needs_prediction`.
            seed: of random choices.
        """


strategies: Registry[type[Strategy]] = Registry("strategy", "napari_emda.strategies", "napari_emda.strategies")


def pick(
    scores: Scores, candidates: Candidates, count: int, *, within: Box, excluded: list[Box], distance: int
) -> list[tuple[Box, float]]:
    """The best candidates within a box that do not overlap each other or what is excluded.

    Picks at the same place in the plane keep more than ``distance`` sections between them; excluded boxes exclude their
    own sections only. NaN counts as never.
    """
    left = np.where(np.isnan(scores), -np.inf, scores)
    left[~candidates.inside(within)] = -np.inf
    for box in excluded:
        _strike(left, candidates, box, 0)
    picks: list[tuple[Box, float]] = []
    while len(picks) < count:
        index = np.unravel_index(int(left.argmax()), left.shape)
        if left[index] == -np.inf:
            break
        z, y, x = (int(i) for i in index)
        box = candidates.box((z, y, x))
        picks.append((box, float(scores[z, y, x])))
        _strike(left, candidates, box, distance)
    return picks


def _strike(scores: Scores, candidates: Candidates, box: Box, sections: int) -> None:
    zs, rows, columns = candidates.near(box, sections)
    block = scores[zs]
    block[:, rows[:, None] & columns[None, :]] = -np.inf


def suggest(
    predictor: Predictor | None,
    volume: Volume,
    strategy: Strategy,
    settings: QuerySettings,
    folder: Path,
    excluded: list[Box],
) -> Iterator[Event]:
    """Rank every patch of a volume and suggest the best that do not overlap.

    Args:
        predictor: needed by strategies that look at the prediction.
        volume: the target.
        strategy: what ranks.
        settings: how many, how large.
        folder: where the prediction is kept (see `napari_emda.predict.Prediction`); used again when complete.
        excluded: regions annotated or skipped already.

    Yields:
        TileDone while predicting, Notice when fewer are found than asked for, Suggested at the end.
    """
    candidates, within = Candidates.of(volume.shape, settings.patch), Box.parse(settings.box, volume.shape)
    uncertainty = None
    if strategy.needs_prediction:
        assert predictor is not None
        prediction = Prediction(folder, volume.name)
        if not prediction.complete(predictor.header.step, uncertainty=True):
            yield from predict(predictor, volume, PredictSettings(device=settings.device), folder)
        uncertainty = prediction.uncertainty
    scores = strategy.score(candidates, uncertainty, settings.seed)
    choose = partial(pick, scores, candidates, settings.count, within=within, excluded=excluded)
    picks = choose(distance=settings.section_distance)
    if len(picks) < settings.count:
        picks = choose(distance=0)
    if len(picks) < settings.count:
        yield Notice(
            f"Only {len(picks)} patches of {settings.patch} pixels are left that were not annotated or skipped, "
            f"{settings.count} were asked for: choose a smaller patch for more."
        )
    yield Suggested(tuple({"volume": volume.name, "box": str(box), "score": score} for box, score in picks))
