"""Prediction of volumes of any size, tile by tile."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
from torch import Tensor

from napari_emda.data.box import Box
from napari_emda.data.context import Context
from napari_emda.data.coverage import Coverage
from napari_emda.data.padding import padding_in
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.errors import DataError
from napari_emda.events import Event, Notice, Saved, TileDone
from napari_emda.inference.device import io_threads
from napari_emda.inference.empty_chunks import Empty, voxels_of
from napari_emda.inference.needed_outputs import NeededOutputs
from napari_emda.inference.origin import averaging
from napari_emda.inference.predictor import PackedAnswer, Predictor, outputs_smoothed_along_z
from napari_emda.inference.recorded import Recorded
from napari_emda.inference.section_window import images
from napari_emda.inference.tiles import (
    BlockReader,
    Tile,
    finish_tile,
    unseen,
    without_neighbours,
)
from napari_emda.inference.tiling import chunks_of, plan, tiles_of
from napari_emda.nn.network import OBJECT_MAPS
from napari_emda.nn.normalisation import in_evaluation_mode
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings


def predict(
    predictor: Predictor,
    volume: Volume,
    settings: PredictSettings,
    run: RunFolder,
    wanted: Coverage | None = None,
) -> Iterator[Event]:
    """Predict a volume, or a part of it, into a run's folder.

    A stopped prediction continues at the next call, and so does one of a part. Reading, computing
    and writing overlap. Memory is bounded by the tile: with n threads (see `io_threads`), n + 1
    tiles wait to be computed and n to be written.

    Args:
        predictor: the model.
        volume: of any size; it is read tile by tile.
        settings: of the prediction.
        run: probabilities, uncertainty and the journal are written there.
        wanted: the part, see `part_around`; by default all of the volume.

    Yields:
        A Notice if the image has changed or sections of it are spoilt, TileDone after each tile is
        on disk, Saved at the end.

    Raises:
        DataError: a prediction contains NaN or infinity.
        JobError: another process is predicting the volume into the same folder.
    """
    view = Resampled(volume, predictor.header.pixel_size)
    averages = averaging(predictor.header, volume, settings)
    stacks = predictor.stacks_of(volume)
    sections = int(averages["z_smoothing"] > 0)
    tiles = plan(view, predictor.network, settings, sections, stacks)
    classes = predictor.header.classes
    prediction = StoredPrediction(run, volume.name)
    # A prediction continues only if all of this is as before: otherwise it would mix two.
    header = {
        **predictor.origin_of(volume),
        **averages,
        "precision": "bf16" if predictor.compute.bf16 else "32",
        "uncertainty": settings.uncertainty,
    }
    object_maps = OBJECT_MAPS if predictor.network.maps_objects else 0
    if object_maps:
        header["object_maps"] = object_maps
    shape = (len(classes) - 1, *volume.shape)
    with run.predicting_alone(volume.name):
        if prediction.is_of_another_image(header):
            yield Notice(
                f"The image of '{volume.name}' is not the one that was predicted before: it is "
                "predicted anew."
            )
        done = prediction.begin(
            header,
            shape,
            classes=classes,
            uncertainty=settings.uncertainty,
            object_maps=object_maps,
            any_precision=settings.precision == "auto",
            tiles=[tile.native for tile in tiles],
        )
        if wanted is None:
            wanted = part_around(volume, [Box.whole(volume.shape)])
        total = len(tiles_of(tiles, wanted, view, predictor.network, sections, stacks))
        missing = wanted.without(done)
        tiles = tiles_of(tiles, missing, view, predictor.network, sections, stacks)
        # What was done before may have left parts of tiles.
        total = max(total, len(tiles))
        context = predictor.header.context_of(view)
        # Of volumes of the training, the training has said it.
        if volume.name not in predictor.header.spoilt:
            yield from map(Notice, context.remarks(volume.name))
        predicting = _predict_tiles(predictor, view, tiles, settings, context, prediction)
        # Also when it is stopped: what was announced is found by the next prediction.
        with contextlib.closing(predicting), prediction.recording():
            for number, (box, is_empty) in enumerate(predicting, total - len(tiles) + 1):
                prediction.box_done(box, is_empty=is_empty)
                yield TileDone(volume.name, box.bounds, number, total)
    yield Saved(str(run.probabilities(volume.name)), predictor.header.step)


def part_around(volume: Volume, boxes: Iterable[Box]) -> Coverage:
    """The part of a volume to predict that holds some boxes: whole chunks of the prediction."""
    part = chunks_of(volume.shape)
    part.add(boxes)
    return part


def _predict_tiles(
    predictor: Predictor,
    view: Resampled,
    tiles: list[Tile],
    settings: PredictSettings,
    context: Context,
    prediction: StoredPrediction,
) -> Generator[tuple[Box, bool]]:
    """Predict and write tiles.

    Yields:
        The voxels of each tile when they are on disk, and whether its image is empty.
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
    sections = _sections(predictor, view, tiles, settings, context, threads)
    with contextlib.closing(sections), ThreadPoolExecutor(threads, "write") as writers:
        waiting: deque[tuple[Box, bool, Future[None]]] = deque()
        for tile, (outputs, empty) in zip(tiles, sections, strict=True):
            packed = None
            if outputs is not None:
                finished = finish_tile(view, tile, without_neighbours(tile, outputs))
                packed = PackedAnswer(
                    finished, predictor.network.classes, uncertainty=settings.uncertainty
                )
            # Results that wait to be written are bounded. In order, so that the journal is too.
            while len(waiting) == threads:
                yield _written(waiting)
            written = writers.submit(write, tile, packed, empty)
            waiting.append((tile.native, packed is None, written))
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

    def unpack_and_write(tile: Tile, packed: PackedAnswer | None, empty: Empty) -> None:
        if packed is None:
            write_background(tile)
            return
        finite, foreground, maps, entropy = packed.unpack()
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


def _written(waiting: deque[tuple[Box, bool, Future[None]]]) -> tuple[Box, bool]:
    """Wait until the oldest tile is on disk; returns its voxels, and whether it is empty."""
    box, is_empty, future = waiting.popleft()
    future.result()
    return box, is_empty
