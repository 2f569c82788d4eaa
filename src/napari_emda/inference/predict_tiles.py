"""What is computed of tiles: read, predicted and written, at the same time."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
from torch import Tensor

from napari_emda.data.box import Box
from napari_emda.data.context import Context
from napari_emda.data.padding import padding_in
from napari_emda.data.resampled import Resampled
from napari_emda.errors import DataError
from napari_emda.inference.device import io_threads
from napari_emda.inference.empty_chunks import Empty, voxels_of
from napari_emda.inference.needed_outputs import NeededOutputs
from napari_emda.inference.origin import averaging
from napari_emda.inference.predictor import (
    PackedAnswer,
    Predictor,
    outputs_smoothed_along_z,
    packed,
)
from napari_emda.inference.recorded import Recorded
from napari_emda.inference.section_window import images
from napari_emda.inference.tiles import (
    BlockReader,
    Tile,
    finish_tile,
    unseen,
    without_neighbours,
)
from napari_emda.inference.work_units import BlockDone
from napari_emda.nn.network import OBJECT_MAPS
from napari_emda.nn.normalisation import in_evaluation_mode
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings


def predict_tiles(
    predictor: Predictor,
    view: Resampled,
    tiles: list[Tile],
    settings: PredictSettings,
    context: Context,
    prediction: StoredPrediction,
) -> Generator[BlockDone]:
    """Predict and write tiles, in their order.

    Args:
        predictor: the model.
        view: the volume at the network's pixel size.
        tiles: those of one place follow each other along z.
        settings: of the prediction.
        context: the sections that are seen with each one.
        prediction: its arrays have been made.

    Yields:
        The voxels of each tile when they are written, and whether its image is empty.

    Raises:
        DataError: a prediction contains NaN or infinity.
    """
    if not tiles:
        return
    threads = io_threads(predictor.compute.device)
    # Clusters have no background.
    has_background = not predictor.header.finds_clusters
    padding = predictor.statistics_of(view.volume).padding if has_background else ()
    write = _writer(
        view,
        prediction,
        padding,
        uncertainty=settings.uncertainty,
        object_maps=predictor.network.maps_objects,
    )
    classes = predictor.network.classes
    pack = Recorded(
        partial(packed, classes=classes, uncertainty=settings.uncertainty),
        enabled=predictor.compute.device.type == "cuda",
        tolerance=0,
    )
    sections = _sections(predictor, view, tiles, settings, context, threads)
    with contextlib.closing(sections), ThreadPoolExecutor(threads, "write") as writers:
        waiting: deque[tuple[Box, bool, Future[None]]] = deque()
        for tile, (outputs, empty) in zip(tiles, sections, strict=True):
            answer = None
            if outputs is not None:
                finished = finish_tile(view, tile, without_neighbours(tile, outputs))
                answer = PackedAnswer(
                    pack(finished), finished.shape, classes, uncertainty=settings.uncertainty
                )
            # Results that wait to be written are bounded. In order, so that the journal is too.
            while len(waiting) == threads:
                yield _written(waiting)
            written = writers.submit(write, tile, answer, empty)
            waiting.append((tile.native, answer is None, written))
        while waiting:
            yield _written(waiting)


def _sections(
    predictor: Predictor,
    view: Resampled,
    tiles: list[Tile],
    settings: PredictSettings,
    context: Context,
    threads: int,
) -> Generator[tuple[Tensor | None, Empty]]:
    """Outputs of all sections that each tile sees, see `Predictor.outputs`.

    Consecutive tiles of the same place overlap by the sections that smoothing along z needs. These
    are computed once.

    Yields:
        The outputs, or None for a tile that is empty; and which chunks of its sections are.
    """
    statistics = predictor.statistics_of(view.volume)
    domain = predictor.domain_of(view.volume)
    averages = averaging(predictor.header, view.volume, settings)
    reader = BlockReader(view, statistics, predictor.compute.device)
    stacks = predictor.stacks_of(view.volume)
    # What a 3-D network predicts at the rim of a tile is wrong: nothing of it is used again.
    new_tiles = tiles if stacks.deep else unseen(tiles)
    seen = images(reader, new_tiles, context, threads)
    # On the CPU there are no launches to save.
    network = Recorded(
        partial(predictor.outputs, domain=domain, stacks=stacks, flips=averages["flips"]),
        enabled=predictor.compute.device.type == "cuda",
    )
    outputs = NeededOutputs(network)
    empty: Empty = np.zeros((0, 0, 0), bool)
    with contextlib.closing(seen), in_evaluation_mode(predictor.network):
        for tile, new in zip(tiles, seen, strict=True):
            # The first sections of this tile are the last ones of the tile before it.
            overlap = tile.seen.shape[0] - len(new.image)
            if overlap:
                empty = np.concatenate([empty[len(empty) - overlap :], new.empty])
            else:
                empty = new.empty
            written = _empty_in(tile, empty, stacks.halo)
            if predictor.header.finds_clusters:
                written[:] = False
            if written.all():
                outputs.skip(new.image, overlap)
                yield None, written
                continue
            computed = outputs.compute(new.image, overlap)
            classes = predictor.network.classes
            yield outputs_smoothed_along_z(computed, classes, averages["z_smoothing"]), written


def _empty_in(tile: Tile, empty: Empty, halo: int) -> Empty:
    """Which chunks of the sections that are written are empty.

    Args:
        tile: the tile.
        empty: of all sections that it sees.
        halo: sections on each side that a 3-D network sees with a section.
    """
    first = tile.native.start[0] - tile.seen.start[0]
    sections = range(first, first + tile.native.shape[0])
    return np.stack([empty[max(0, z - halo) : z + halo + 1].all(0) for z in sections])


def _writer(
    view: Resampled,
    prediction: StoredPrediction,
    padding: tuple[float, ...],
    *,
    uncertainty: bool,
    object_maps: bool,
) -> Callable[[Tile, PackedAnswer | None, Empty], None]:
    """A function for the writing threads that waits for a tile's result and writes it to disk."""
    write = prediction.writer(uncertainty=uncertainty, object_maps=object_maps)
    classes = prediction.probabilities.shape[0]

    def write_background(tile: Tile) -> None:
        nothing = np.zeros(tile.native.shape, np.uint8)
        maps = np.zeros((OBJECT_MAPS, *nothing.shape), np.uint8) if object_maps else None
        # Background, and without any uncertainty.
        foreground = np.broadcast_to(nothing, (classes, *nothing.shape))
        write(tile.native, foreground, nothing if uncertainty else None, maps)

    def unpack_and_write(tile: Tile, answer: PackedAnswer | None, empty: Empty) -> None:
        if answer is None:
            write_background(tile)
            return
        finite, foreground, maps, entropy = answer.unpack()
        # As a byte, NaN would be stored as certain background.
        if not finite.all():
            section = tile.native.start[0] + int(np.argmin(finite))
            raise DataError(
                f"The prediction contains NaN or infinity in section {section} of "
                f"'{view.volume.name}': replace NaN and infinite values of the image there, or use "
                "another model."
            )
        if padding or empty.any():
            outside = voxels_of(tile, empty)
            if padding:
                outside |= padding_in(view.volume, tile.native, padding)
            foreground = np.where(outside[:, None], 0, foreground)
            maps = None if maps is None else np.where(outside[:, None], 0, maps)
            entropy = None if entropy is None else np.where(outside, 0, entropy)
        maps = None if maps is None else np.moveaxis(maps, 0, 1)
        write(tile.native, np.moveaxis(foreground, 0, 1), entropy, maps)

    return unpack_and_write


def _written(waiting: deque[tuple[Box, bool, Future[None]]]) -> BlockDone:
    """Wait until the oldest tile is on disk; returns its voxels, and whether it is empty."""
    box, is_empty, future = waiting.popleft()
    future.result()
    return box, is_empty
