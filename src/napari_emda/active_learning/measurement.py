"""What a strategy needs of a volume: only what holds candidates is predicted and measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from napari_emda.active_learning.candidates import Candidates, Places
from napari_emda.active_learning.patch_features import (
    PatchFeatures,
    means_of,
    patch_features,
    windows_of,
)
from napari_emda.active_learning.strategy import Strategy
from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from napari_emda.data.probabilities import Entropy
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.events import Event, Notice, stage
from napari_emda.inference.origin import begun_with, unusual
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.inference.tiles import make_tile
from napari_emda.inference.tiling import chunks_of
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import CHUNK, StoredPrediction
from napari_emda.project.unchanged_prediction import UnchangedPrediction
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.suggestion import QuerySettings


def places_for(
    predictor: Predictor,
    volume: Volume,
    strategy: Strategy,
    settings: QuerySettings,
    folder: RunFolder,
) -> Places | None:
    """Where to look for patches in a large volume; None if the network can look at all of it."""
    region = Box.parse(settings.box, volume.shape)
    view = Resampled(volume, predictor.header.pixel_size)
    pixels = settings.voxels * 10**6
    if region.size * math.prod(view.scale) <= pixels:
        return None
    asks_network = strategy.measures or strategy.needs_embeddings
    made_from = predictor.origin_of(volume)
    prediction = StoredPrediction(folder, volume.name)
    if not asks_network and prediction.complete(made_from, box=region):
        return None
    stacks = predictor.stacks_of(volume)
    # Whole chunks of the prediction. Of what a 3-D network sees, half is looked at.
    side = -(-settings.patch // CHUNK) * CHUNK
    sections = max(1, 2 * stacks.halo)
    # A square in the middle of the volume: nothing of its margin is missing.
    z, y, x = (size // 2 for size in volume.shape)
    square = Box((z, y, x), (z + sections, y + side, x + side))
    smoothing = int(predictor.z_smoothing(volume) > 0)
    network = predictor.network
    tile = make_tile(
        view, square.clip(volume.shape), network.halo, network.stride, smoothing, stacks
    )
    return Places(max(1, pixels // tile.seen.size), side, sections)


def candidate_features(
    predictor: Predictor,
    volume: Volume,
    strategy: Strategy,
    settings: QuerySettings,
    folder: RunFolder,
    candidates: Candidates,
    excluded: list[Box],
    earlier: Predictor | None = None,
    entropy: Callable[[], Array | None] = lambda: None,
) -> Generator[Event, None, PatchFeatures]:
    """Compute the features of patches that a strategy needs.

    Args:
        predictor: the model.
        volume: the target.
        strategy: ranks the patches.
        settings: seed and device.
        folder: of the run, for prediction and uncertainty.
        candidates: what may be picked.
        excluded: annotated or skipped regions.
        earlier: the model of the round before, for strategies that ask it.
        entropy: see `suggest`.

    Yields:
        TileDone after each block; nothing is predicted that the folder holds already.

    Returns:
        Uncertainty and embeddings of the candidates, then of the excluded boxes.
    """
    prediction = StoredPrediction(folder, volume.name)
    part = chunks_of(volume.shape).of_windows(windows_of(candidates, []))
    # What the network is asked for: predictions, then measures and embeddings.
    stages = 1 + (strategy.measures or strategy.needs_embeddings)
    if strategy.needs_entropy or (strategy.measures and part.is_all):
        yield from stage(predict_once(predictor, volume, settings, folder, part), 0, stages)
    state = prediction.state
    features = PatchFeatures(np.full(len(candidates), np.nan), None)
    if strategy.measures or strategy.needs_embeddings:
        # Another process must not predict into the uncertainty that is being measured.
        with folder.predicting_alone(volume.name) if strategy.measures else nullcontext():
            keep = None
            # What is known of a part only would look like certainty in the rest, and what is
            # predicted later would be mixed with it.
            if strategy.measures and part.is_all and prediction.complete({}, uncertainty=True):
                keep = prediction.begin_uncertainty(volume.shape, strategy.name)
            measuring = patch_features(
                predictor,
                volume,
                windows_of(candidates, excluded if strategy.needs_embeddings else []),
                uncertainty=strategy.uncertainty,
                embeddings=strategy.needs_embeddings,
                seed=settings.seed,
                earlier=earlier,
                keep=keep,
            )
            features = yield from stage(measuring, 1, stages)
    if strategy.needs_entropy:
        named = entropy()
        stored = _entropy_of(prediction) if named is None else named
        unchanged = UnchangedPrediction(stored, prediction, state)
        features = replace(features, uncertainty=means_of(unchanged, candidates))
    return features


def _entropy_of(prediction: StoredPrediction) -> Array:
    """The entropy of a prediction, uint8 (z, y, x): as it is stored, or from the probabilities.

    It may not have been stored, or the measure of another strategy has taken its place.
    """
    if prediction.header["uncertainty"] and not prediction.measure:
        return prediction.uncertainty
    return Entropy(prediction.probabilities)


def predict_once(
    predictor: Predictor,
    volume: Volume,
    settings: QuerySettings,
    folder: RunFolder,
    part: Coverage,
) -> Generator[Event]:
    """Predict a part of a volume, unless the folder holds this model's prediction of it.

    Args:
        predictor: the model.
        volume: of which a part is predicted.
        settings: the device.
        folder: of the run.
        part: see `napari_emda.inference.predict.part_around`.

    Yields:
        The events of predicting; or a Notice if the stored prediction was made with other settings
        than the model asks for.
    """
    # Heads that saw no label predict noise, which would have to be erased from every patch.
    if predictor.header.features_only:
        return
    prediction = StoredPrediction(folder, volume.name)
    made_from = predictor.origin_of(volume)
    predict_settings = PredictSettings(device=settings.device)
    if prediction.is_of(made_from):
        if not part.without(prediction.predicted).cells.any():
            if text := unusual(prediction.header, predictor.header, volume):
                yield Notice(text)
            return
        predict_settings = begun_with(prediction.header, predict_settings)
    yield from predict(predictor, volume, predict_settings, folder, part)
