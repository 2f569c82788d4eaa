"""How good a network is on a target that nobody has labelled: the same tiles, looked at again and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.blocks import spread
from napari_emda.data.box import Box
from napari_emda.data.intensity import Statistics
from napari_emda.data.probabilities import class_ids
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.evaluation.label_free import (
    Prior,
    disagreement,
    label_free_score,
    objects_in,
    solidity_gap,
    uncertainty,
)
from napari_emda.inference.device import Compute
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predictor import Predictor, predict_box
from napari_emda.nn.network import Network
from napari_emda.settings.training import TrainSettings

TILES = 8
_SHARE = 0.08
_SIDES = (32, 512)
_SECTIONS = 64
_SOURCE_SIDE = 1024


# -- where and when to look --------------------------------------------------------------------------------------


def tile_side(settings: TrainSettings) -> int:
    """Side of a tile, in pixels of the network, such that looking at all of them costs little beside the training.

    A validation sees each tile twice, going forward alone; a step of training sees a batch going forward and back,
    which is three times the work.
    """
    trained = 3 * settings.steps / max(1, settings.validations) * settings.batch * settings.patch**2
    side = (_SHARE * trained / (2 * TILES)) ** 0.5
    low, high = _SIDES
    return int(max(settings.patch, min(side, high)) // low * low)


def validation_steps(settings: TrainSettings) -> tuple[int, ...]:
    """After which steps to look at the target: the last one and as many as asked for, fewer in short trainings."""
    if not settings.validations:
        return ()
    affordable = int(_SHARE * 3 * settings.steps * settings.batch / (2 * TILES))
    count = max(1, min(settings.validations, affordable))
    return tuple(sorted({round(settings.steps * (i + 1) / count) for i in range(count)}))


def source_priors(
    volumes: Sequence[Volume], header: ModelHeader, settings: TrainSettings
) -> tuple[Prior | None, ...]:
    """What the objects of each foreground class look like in the source's labels, within ``source_box``."""
    views = [
        Resampled(volume, header.pixel_size) for volume in volumes if volume.labels is not None
    ]
    parts = [
        (view, part)
        for view in views
        for part in spread(
            _box(view, settings.source_box), min(_SECTIONS, view.shape[0]), _SOURCE_SIDE
        )
    ]
    sections = [view.read_labels(part)[0] for view, part in parts]
    return tuple(Prior.of(objects_in(sections, k)) for k in range(1, len(header.classes)))


def _box(view: Resampled, text: str) -> Box:
    return view.box_of(Box.parse(text, view.volume.shape))


# -- looking -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """A square of one section.

    Attributes:
        volume: the section and its neighbours, under a name of its own.
        section: its place among these.
        statistics: grey values, measured of the whole of the target.
    """

    volume: Volume
    section: int
    statistics: Statistics

    def predicted(self, predictor: Predictor) -> NDArray[np.uint8]:
        """Stored probabilities, (C - 1, rows, columns)."""
        _, height, width = self.volume.shape
        return predict_box(
            predictor, self.volume, Box((self.section, 0, 0), (self.section + 1, height, width))
        )

    def turned(self) -> Tile:
        """The same by 180 degrees."""
        return replace(
            self, volume=replace(self.volume, image=np.flip(np.asarray(self.volume.image), (1, 2)))
        )


@dataclass(frozen=True)
class Validator:
    """Predicts the same tiles of the target again and again, and scores them without labels.

    The tiles are held in memory at the pixel size of the network, as small volumes of their own: halos would cost more
    than the tiles.

    Attributes:
        tiles: small volumes, each a tile's section with the sections before and after it.
        priors: of each foreground class; None where the source has no object of it.
    """

    tiles: tuple[Tile, ...]
    priors: tuple[Prior | None, ...]

    @classmethod
    def of(
        cls,
        sources: Sequence[Volume],
        targets: Sequence[Volume],
        header: ModelHeader,
        settings: TrainSettings,
    ) -> Validator | None:
        """For a training; None when there is no target to look at, or nothing in the source to compare it with."""
        priors = source_priors(sources, header, settings)
        if not targets or not any(priors):
            return None
        views = [Resampled(volume, header.pixel_size) for volume in targets]
        count = -(-TILES // len(views))
        tiles = tuple(tile for view in views for tile in _tiles(view, header, settings, count))
        return cls(tiles, priors)

    def scores(self, network: Network, header: ModelHeader, compute: Compute) -> dict[str, float]:
        """Label-free scores of a network.

        Returns:
            Means over the foreground classes: ``score`` (`label_free.label_free_score`; lower is
            better), ``solidity``, ``solidity_gap`` (the criterion of Franco-Barranco et al. 2022),
            ``flip_disagreement`` (1 - IoU of the prediction with that of the flipped image) and
            ``uncertainty`` (1 - the IoU that the probabilities let expect). Sums:
            ``foreground_fraction`` and ``objects``. And ``foreground_ratio``, the fraction as a
            multiple of the source's, of the class farthest from 1.
        """
        statistics = {tile.volume.name: tile.statistics for tile in self.tiles}
        predictor = Predictor(
            network, header.model_copy(update={"statistics": statistics}), compute
        )
        plain = [tile.predicted(predictor) for tile in self.tiles]
        flipped = [np.flip(tile.turned().predicted(predictor), (1, 2)) for tile in self.tiles]
        rows = [
            _class_scores(plain, flipped, k, prior)
            for k, prior in enumerate(self.priors, 1)
            if prior is not None
        ]
        return _together(rows)


def _tiles(
    view: Resampled, header: ModelHeader, settings: TrainSettings, count: int
) -> Iterator[Tile]:
    original, size, statistics = view.volume, view.pixel_size, header.statistics_of(view)
    for number, box in enumerate(
        spread(_box(view, settings.target_box), count, tile_side(settings))
    ):
        z = box.start[0]
        beside = 0 if original.grid.sections_are_independent else 1
        first = max(0, z - beside)
        last = min(view.shape[0], z + 1 + beside)
        image = view.read(Box((first, *box.start[1:]), (last, *box.stop[1:])))
        name = f"{original.name} {number}"
        cut = Volume(name, image, original.domain, original.grid.with_pixel_size(size))
        yield Tile(cut, z - first, statistics.of_section(z))


def _class_scores(
    plain: Sequence[NDArray[np.uint8]],
    flipped: Sequence[NDArray[np.uint8]],
    class_id: int,
    prior: Prior,
) -> dict[str, float]:
    ids = [class_ids(probabilities) for probabilities in plain]
    masks = np.concatenate([part.ravel() == class_id for part in ids])
    others = np.concatenate(
        [class_ids(probabilities).ravel() == class_id for probabilities in flipped]
    )
    stored = np.concatenate([probabilities[class_id - 1].ravel() for probabilities in plain])
    found = objects_in(ids, class_id)
    shaped = found.larger_than(prior.least)
    differing, unsure = disagreement(masks, others), uncertainty(stored / np.float32(255), masks)
    return {
        "score": label_free_score(shaped, prior, differing, unsure),
        "solidity": found.solidity(),
        "solidity_gap": solidity_gap(found, prior),
        "foreground_fraction": found.fraction,
        "foreground_ratio": found.fraction / prior.fraction,
        "objects": float(len(shaped.areas)),
        "flip_disagreement": differing,
        "uncertainty": unsure,
    }


def _together(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The scores of several classes as those of one."""
    scores = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    sums = {key: sum(row[key] for row in rows) for key in ("foreground_fraction", "objects")}
    worst = max(
        (row["foreground_ratio"] for row in rows), key=lambda ratio: abs(np.log(max(ratio, 1e-9)))
    )
    return {**scores, **sums, "foreground_ratio": worst}
