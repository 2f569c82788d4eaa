"""Validation without labels of the target: the same tiles are predicted and scored again."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.blocks import spread
from napari_emda.data.box import Box
from napari_emda.data.context import Context, runs
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
from napari_emda.events import Advanced
from napari_emda.inference.device import Compute
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predictor import Predictor, predict_box
from napari_emda.inference.section_stacks import SectionStacks
from napari_emda.nn.network import Network
from napari_emda.settings.training import TrainSettings

# Tiles of the target, spread evenly. The fewer, the larger at the same cost (see `tile_side`), and
# the fewer objects are cut by a border.
TILES = 8

# Fraction of the training's work that validations may take; docs/stopping.md measures 3 to 8 % of
# its time.
_SHARE = 0.08

# Smallest and largest side of a tile in pixels. Sides are multiples of the smallest one.
_SIDES = (32, 512)

# Sections of the source, and the side of the part of each, in which shapes of objects are measured:
# enough objects for their statistics, without reading a large volume completely.
_SOURCE_SECTIONS = 64
_SOURCE_SIDE = 1024


# -- where and when to validate --------------------------------------------------------------------


def tile_side(settings: TrainSettings) -> int:
    """Side of a tile, in pixels of the network, with which validations cost little time."""
    # Forward passes of one pixel that fit the work between two validations: a training step goes
    # forward and back, about three times the work of a forward pass.
    steps = settings.steps / max(1, settings.validations)
    training_work = 3 * steps * settings.batch * settings.patch**2
    # Each tile is predicted twice, as it is and turned.
    side = (_SHARE * training_work / (2 * TILES)) ** 0.5
    low, high = _SIDES
    return int(max(settings.patch, min(side, high)) // low * low)


def validation_steps(settings: TrainSettings) -> tuple[int, ...]:
    """The steps after which to validate, evenly spaced up to the last one.

    As many as the settings ask for, but fewer in short trainings.
    """
    if not settings.validations:
        return ()
    # As in `tile_side`, with tiles of the size of a patch, the smallest possible.
    affordable = int(_SHARE * 3 * settings.steps * settings.batch / (2 * TILES))
    count = max(1, min(settings.validations, affordable))
    return tuple(sorted({round(settings.steps * (i + 1) / count) for i in range(count)}))


def source_priors(
    volumes: Sequence[Volume], header: ModelHeader, settings: TrainSettings
) -> tuple[Prior | None, ...]:
    """Shapes of the source's objects, by foreground class, measured in its labels.

    Only labels within ``source_box`` count.
    """
    views = [
        Resampled(volume, header.pixel_size) for volume in volumes if volume.labels is not None
    ]
    sections = [
        view.read_labels(box)[0]
        for view in views
        for box in spread(
            _box(view, settings.source_box), min(_SOURCE_SECTIONS, view.shape[0]), _SOURCE_SIDE
        )
    ]
    return tuple(Prior.of(objects_in(sections, k)) for k in range(1, len(header.classes)))


def _box(view: Resampled, text: str) -> Box:
    return view.box_of(Box.parse(text, view.volume.shape))


# -- validating ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """A square of one section.

    Attributes:
        volume: the section, its neighbours and what is seen beside them, under a unique name.
        section: index of the section in this volume.
        context: the sections of this volume that are seen with each one.
        statistics: grey values of the whole target.
    """

    volume: Volume
    section: int
    statistics: Statistics
    context: Context

    @property
    def box(self) -> Box:
        """The section, in the volume."""
        return Box((0, 0, 0), self.volume.shape).in_sections(self.section, self.section + 1)

    def predicted(self, predictor: Predictor) -> NDArray[np.uint8]:
        """255 times the probabilities of the foreground classes, uint8 (C - 1, rows, columns)."""
        return predict_box(predictor, self.volume, self.box, self.context)

    def turned(self) -> Tile:
        """The tile turned by 180 degrees."""
        return replace(
            self, volume=replace(self.volume, image=np.flip(np.asarray(self.volume.image), (1, 2)))
        )


@dataclass(frozen=True)
class Validator:
    """Predicts the same tiles of the target at each validation, and scores them without labels.

    The tiles are small volumes in memory, at the network's pixel size and without a halo, which
    would be larger than the tile itself.

    Attributes:
        tiles: each one a section with the sections before and after it.
        priors: by foreground class; None if the source has no object of a class.
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
        network: Network | None = None,
    ) -> Validator | None:
        """The validator of a training; None without a target, or without objects in the source.

        Args:
            sources: whose labels hold the shapes of objects; without any, the header does.
            targets: where the tiles lie.
            header: of the model.
            settings: of the training.
            network: that will be scored; None for one that sees single sections.
        """
        priors = source_priors(sources, header, settings) if sources else header.shapes
        if not targets or not any(priors):
            return None
        views = [Resampled(volume, header.pixel_size) for volume in targets]
        count = -(-TILES // len(views))
        tiles = tuple(
            tile for view in views for tile in _tiles(view, header, settings, count, network)
        )
        return cls(tiles, priors)

    def scores(
        self, network: Network, header: ModelHeader, compute: Compute
    ) -> Generator[Advanced, None, dict[str, float]]:
        """Label-free scores of a network.

        Yields:
            Advanced after each tile.

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
        plain = []
        flipped = []
        for done, tile in enumerate(self.tiles, 1):
            plain.append(tile.predicted(predictor))
            flipped.append(np.flip(tile.turned().predicted(predictor), (1, 2)))
            yield Advanced(done, len(self.tiles))
        rows = [
            _class_scores(plain, flipped, k, prior)
            for k, prior in enumerate(self.priors, 1)
            if prior is not None
        ]
        return _together(rows)


def _tiles(
    view: Resampled,
    header: ModelHeader,
    settings: TrainSettings,
    count: int,
    network: Network | None = None,
) -> Iterator[Tile]:
    """Read tiles of a target, spread evenly over ``target_box``."""
    original = view.volume
    statistics = header.statistics_of(view)
    context = header.context_of(view)
    stacks = SectionStacks()
    if network is not None:
        stacks = SectionStacks.of(network, original, header.section_distance)
    for number, box in enumerate(
        spread(_box(view, settings.target_box), count, tile_side(settings))
    ):
        z = box.start[0]
        # The neighbours, for smoothing along z.
        neighbours = 0 if original.grid.sections_are_independent else 1
        first = max(0, z - neighbours)
        stop = min(view.shape[0], z + 1 + neighbours)
        # What a 3-D network sees around them.
        first, stop = stacks.part(first, stop, view.shape[0])
        seen, context_of_tile = context.part(first, stop)
        parts = [view.read(box.in_sections(z0, z1)) for z0, z1 in runs(seen)]
        grid = original.grid.with_pixel_size(view.pixel_size)
        volume = Volume(f"{original.name} {number}", np.concatenate(parts), original.domain, grid)
        yield Tile(volume, seen.index(z), statistics.of_section(z), context_of_tile)


def _class_scores(
    plain: Sequence[NDArray[np.uint8]],
    flipped: Sequence[NDArray[np.uint8]],
    class_id: int,
    prior: Prior,
) -> dict[str, float]:
    """Scores of one foreground class.

    Args:
        plain: stored probabilities of each tile, uint8 (C - 1, rows, columns).
        flipped: the same of the turned tiles, turned back.
        class_id: of the class.
        prior: of its objects in the source.
    """
    ids = [class_ids(probabilities) for probabilities in plain]
    masks = np.concatenate([tile_ids.ravel() == class_id for tile_ids in ids])
    flipped_masks = np.concatenate(
        [class_ids(probabilities).ravel() == class_id for probabilities in flipped]
    )
    stored = np.concatenate([probabilities[class_id - 1].ravel() for probabilities in plain])
    objects = objects_in(ids, class_id)
    # Specks have shapes of their own: what is smaller than the source's objects does not count.
    large_objects = objects.larger_than(prior.least)
    flip_disagreement = disagreement(masks, flipped_masks)
    mean_uncertainty = uncertainty(stored / np.float32(255), masks)
    return {
        "score": label_free_score(large_objects, prior, flip_disagreement, mean_uncertainty),
        "solidity": objects.solidity(),
        "solidity_gap": solidity_gap(objects, prior),
        "foreground_fraction": objects.fraction,
        "foreground_ratio": objects.fraction / prior.fraction,
        "objects": float(len(large_objects.areas)),
        "flip_disagreement": flip_disagreement,
        "uncertainty": mean_uncertainty,
    }


def _together(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Combine the scores of several classes: means, sums, and the worst foreground ratio."""
    scores = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    sums = {key: sum(row[key] for row in rows) for key in ("foreground_fraction", "objects")}
    # Farthest from 1 on a logarithmic scale: half as much is as bad as twice as much.
    worst = max(
        (row["foreground_ratio"] for row in rows), key=lambda ratio: abs(np.log(max(ratio, 1e-9)))
    )
    return {**scores, **sums, "foreground_ratio": worst}
