"""Prediction of volumes of any size, tile by tile."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
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
from napari_emda.inference.origin import averaging, origin
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
        **origin(predictor.header, predictor.model_file, volume),
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
            for number, box in enumerate(predicting, total - len(tiles) + 1):
                prediction.box_done(box)
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
) -> Generator[Box]:
    """Predict and write tiles; yields the voxels of each one when they are on disk."""
    if not tiles:
        return
    threads = io_threads(predictor.compute.device)
    # Clusters have no background.
    padding = (
        () if predictor.header.finds_clusters else predictor.statistics_of(view.volume).padding
    )
    write = _writer(
        view,
        prediction,
        padding,
        uncertainty=settings.uncertainty,
        object_maps=predictor.network.maps_objects,
    )
    sections = _sections(predictor, view, tiles, settings, context, threads)
    with contextlib.closing(sections), ThreadPoolExecutor(threads, "write") as writers:
        waiting: deque[tuple[Box, Future[None]]] = deque()
        for tile, outputs in zip(tiles, sections, strict=True):
            finished = finish_tile(view, tile, without_neighbours(tile, outputs))
            packed = PackedAnswer(
                finished, predictor.network.classes, uncertainty=settings.uncertainty
            )
            # Results that wait to be written are bounded. In order, so that the journal is too.
            while len(waiting) == threads:
                yield _written(waiting)
            waiting.append((tile.native, writers.submit(write, tile, packed)))
        while waiting:
            yield _written(waiting)


def _sections(
    predictor: Predictor,
    view: Resampled,
    tiles: list[Tile],
    settings: PredictSettings,
    context: Context,
    threads: int,
) -> Generator[Tensor]:
    """Outputs of all sections that each tile sees, see `Predictor.outputs`.

    Consecutive tiles of the same place overlap by the sections that smoothing along z needs. These
    are computed once.
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
    outputs = torch.zeros(0)
    with contextlib.closing(seen), in_evaluation_mode(predictor.network):
        for tile, image in zip(tiles, seen, strict=True):
            computed = network(image)
            # The first sections of this tile are the last ones of the tile before it.
            overlap = tile.seen.shape[0] - len(computed)
            if overlap:
                computed = torch.cat([outputs[len(outputs) - overlap :], computed])
            outputs = computed
            classes = predictor.network.classes
            yield outputs_smoothed_along_z(outputs, classes, averages["z_smoothing"])


def _writer(
    view: Resampled,
    prediction: StoredPrediction,
    padding: tuple[float, ...],
    *,
    uncertainty: bool,
    object_maps: bool,
) -> Callable[[Tile, PackedAnswer], None]:
    """A function for the writing threads that waits for a tile's result and writes it to disk."""
    write = prediction.writer(uncertainty=uncertainty, object_maps=object_maps)

    def unpack_and_write(tile: Tile, packed: PackedAnswer) -> None:
        finite, foreground, maps, entropy = packed.unpack()
        # As a byte, NaN would be stored as certain background.
        if not finite.all():
            section = tile.native.start[0] + int(np.argmin(finite))
            raise DataError(
                f"The prediction contains NaN or infinity in section {section} of "
                f"'{view.volume.name}': replace NaN and infinite values of the image there, or use "
                "another model."
            )
        if padding:
            outside = padding_in(view.volume, tile.native, padding)
            # Background, and without any uncertainty.
            foreground = np.where(outside[:, None], 0, foreground)
            maps = None if maps is None else np.where(outside[:, None], 0, maps)
            entropy = None if entropy is None else np.where(outside, 0, entropy)
        maps = None if maps is None else np.moveaxis(maps, 0, 1)
        write(tile.native, np.moveaxis(foreground, 0, 1), entropy, maps)

    return unpack_and_write


def _written(waiting: deque[tuple[Box, Future[None]]]) -> Box:
    """Wait until the oldest tile is on disk; returns its voxels."""
    box, future = waiting.popleft()
    future.result()
    return box
