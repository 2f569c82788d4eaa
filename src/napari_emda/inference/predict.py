"""Prediction of volumes of any size, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from napari_emda.data.prefetch import prefetched
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.events import Event, Saved, TileDone
from napari_emda.inference.predictor import (
    Predictor,
    entropy,
    foreground_bytes,
    smoothed_along_z,
    to_bytes,
)
from napari_emda.inference.tiles import (
    Tile,
    check_finite,
    core_of,
    finish_tile,
    plan,
    read_tile,
    unseen,
)
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings


def predict(
    predictor: Predictor, volume: Volume, settings: PredictSettings, run: RunFolder
) -> Iterator[Event]:
    """Predict a whole volume into a run's folder; stopped, it goes on where it was at the next call.

    Memory is bounded by the block. Reading, computing and writing overlap. DataError where the answer is not a number.

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
        "first": list(tiles[0].core.bounds),
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
    statistics, domain = predictor.statistics_of(view.volume), predictor.domain_of(view.volume)
    flips, weight = _asked(predictor, view.volume, settings)
    write = prediction.writer(uncertainty=settings.uncertainty)
    fresh = unseen([tiles[index] for index in left])
    images = prefetched(lambda i: read_tile(view, fresh[i], statistics), 0, len(left), ahead=2)
    sections = torch.zeros(0)
    with ThreadPoolExecutor(1, "write") as writer:
        waiting: tuple[int, Future[None]] | None = None
        try:
            for index, image in zip(left, images, strict=True):
                new = predictor.probabilities(
                    image.to(predictor.compute.device), domain, flips=flips
                )
                known = tiles[index].seen.shape[0] - len(new)
                sections = torch.cat([sections[len(sections) - known :], new]) if known else new
                result = core_of(tiles[index], smoothed_along_z(sections, weight))
                result = finish_tile(view, tiles[index], result)
                check_finite(view, tiles[index], result)
                values = np.moveaxis(foreground_bytes(result), 0, 1)
                uncertainty = to_bytes(entropy(result)) if settings.uncertainty else None
                if waiting is not None:
                    waiting[1].result()
                    yield waiting[0]
                waiting = index, writer.submit(write, tiles[index].native, values, uncertainty)
            if waiting is not None:
                waiting[1].result()
                yield waiting[0]
        finally:
            images.close()


def _asked(predictor: Predictor, volume: Volume, settings: PredictSettings) -> tuple[bool, float]:
    """Whether to average over flips, and the weight of the neighbouring sections."""
    flips = predictor.header.flips if settings.flips == "auto" else settings.flips == "on"
    return flips, predictor.z_smoothing(volume) if settings.z_smoothing else 0.0
