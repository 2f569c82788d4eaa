"""Prediction of volumes of any size, block by block."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from napari_emda.data.prefetch import prefetched
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.errors import DataError
from napari_emda.events import Event, Saved, TileDone
from napari_emda.inference.device import io_threads
from napari_emda.inference.predictor import PackedAnswer, Predictor, smoothed_along_z
from napari_emda.inference.recorded import Recorded
from napari_emda.inference.tiles import (
    BlockReader,
    Tile,
    finish_tile,
    unseen,
    without_neighbours,
)
from napari_emda.inference.tiling import plan
from napari_emda.nn.normalisation import in_evaluation_mode
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import CHUNK, StoredPrediction
from napari_emda.settings.prediction import PredictSettings


def predict(
    predictor: Predictor, volume: Volume, settings: PredictSettings, run: RunFolder
) -> Iterator[Event]:
    """Predict a whole volume into a run's folder; stopped, it goes on where it was at the next call.

    Reading, computing and writing overlap. Memory is bounded by the block: besides the one that is computed, one more
    than there are reading threads wait to be computed, and as many as there are writing threads to be written (see
    `io_threads`). DataError where the answer is not a number.

    Yields:
        TileDone after each block is on disk, Saved at the end.
    """
    view = Resampled(volume, predictor.header.pixel_size)
    flips, weight = _asked(predictor, volume, settings)
    tiles = plan(view, predictor.network, settings, sections=int(weight > 0))
    classes = predictor.header.classes
    prediction = StoredPrediction(run, volume.name)
    head = {
        "model": predictor.header.model,
        "tiles": len(tiles),
        "first": list(tiles[0].native.bounds),
        "chunk": CHUNK,
        "flips": flips,
        "z_smoothing": weight,
        "uncertainty": settings.uncertainty,
        "shape": list(volume.shape),
    }
    done = prediction.begin(
        head, (len(classes) - 1, *volume.shape), classes=classes, uncertainty=settings.uncertainty
    )
    for index in _predict_tiles(predictor, view, tiles, done, settings, prediction):
        prediction.tile_done(index)
        done.add(index)
        yield TileDone(volume.name, tiles[index].native.bounds, len(done), len(tiles))
    yield Saved(str(run.probabilities(volume.name)), predictor.header.step)


def _predict_tiles(
    predictor: Predictor,
    view: Resampled,
    tiles: list[Tile],
    done: set[int],
    settings: PredictSettings,
    prediction: StoredPrediction,
) -> Iterator[int]:
    left = [index for index in range(len(tiles)) if index not in done]
    if not left:
        return
    threads = io_threads(predictor.compute.device)
    write = _writer(view, prediction, uncertainty=settings.uncertainty)
    sections = _sections(predictor, view, [tiles[index] for index in left], settings, threads)
    with contextlib.closing(sections), ThreadPoolExecutor(threads, "write") as writers:
        waiting: deque[tuple[int, Future[None]]] = deque()
        for index, probabilities in zip(left, sections, strict=True):
            result = finish_tile(
                view, tiles[index], without_neighbours(tiles[index], probabilities)
            )
            answer = PackedAnswer(result, uncertainty=settings.uncertainty)
            while len(waiting) == threads:
                yield _written(waiting)
            waiting.append((index, writers.submit(write, tiles[index], answer)))
        while waiting:
            yield _written(waiting)


def _sections(
    predictor: Predictor,
    view: Resampled,
    tiles: list[Tile],
    settings: PredictSettings,
    threads: int,
) -> Generator[Tensor]:
    """Of each tile the probabilities of all sections it sees; those that the tile before it saw are kept from it."""
    statistics, domain = predictor.statistics_of(view.volume), predictor.domain_of(view.volume)
    flips, weight = _asked(predictor, view.volume, settings)
    fresh = unseen(tiles)
    reader = BlockReader(view, statistics, predictor.compute.device)
    blocks = prefetched(
        lambda i: reader.read(fresh[i]), 0, len(fresh), ahead=threads + 1, threads=threads
    )
    answer = Recorded(
        partial(predictor.probabilities, domain=domain, flips=flips),
        enabled=predictor.compute.device.type == "cuda",
    )
    seen = torch.zeros(0)
    with contextlib.closing(blocks), in_evaluation_mode(predictor.network):
        for tile, block, stored in zip(tiles, fresh, blocks, strict=True):
            image = reader.on_device(stored, block)
            new = answer(image)
            known = tile.seen.shape[0] - len(new)
            seen = torch.cat([seen[len(seen) - known :], new]) if known else new
            yield smoothed_along_z(seen, weight)


def _writer(
    view: Resampled, prediction: StoredPrediction, *, uncertainty: bool
) -> Callable[[Tile, PackedAnswer], None]:
    """A function, called in the writing threads, that waits for an answer and puts it on disk."""
    write = prediction.writer(uncertainty=uncertainty)

    def unpack_and_write(tile: Tile, answer: PackedAnswer) -> None:
        finite, foreground, doubt = answer.unpack()
        if not finite.all():  # kept as a byte it would be a sure background
            section = tile.native.start[0] + int(np.argmin(finite))
            raise DataError(
                f"The model's answer in section {section} of '{view.volume.name}' is not a number: "
                "replace NaN and infinite values of the image there, or use another model."
            )
        write(tile.native, np.moveaxis(foreground, 0, 1), doubt)

    return unpack_and_write


def _written(waiting: deque[tuple[int, Future[None]]]) -> int:
    """The oldest tile, once it is on disk."""
    index, future = waiting.popleft()
    future.result()
    return index


def _asked(predictor: Predictor, volume: Volume, settings: PredictSettings) -> tuple[bool, float]:
    """Whether to average over flips, and the weight of the neighbouring sections."""
    flips = predictor.header.flips if settings.flips == "auto" else settings.flips == "on"
    return flips, predictor.z_smoothing(volume) if settings.z_smoothing else 0.0
