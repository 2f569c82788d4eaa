"""The best patches of one volume, by one strategy."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np

from napari_emda.active_learning.candidates import Candidates, Pool
from napari_emda.active_learning.patch_features import (
    PatchFeatures,
    means_of,
    patch_features,
    windows_of,
)
from napari_emda.active_learning.strategy import Strategy
from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.errors import JobError
from napari_emda.events import Event, Notice, Suggested
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.requirements import Available
from napari_emda.settings.suggestion import QuerySettings


def choose(strategy: Strategy, pool: Pool, random_count: int = 0) -> list[tuple[int, float]]:
    """Pick candidates one after the other, best first; those ``random_count`` come last.

    Those by lot are drawn first, from all that may be asked for, so that what is measured on them does not depend on
    the strategy's picks.

    Returns:
        Index and score of each pick; fewer than ``pool.count`` when no more are left.
    """
    if not pool.open.any():
        return []
    strategy.begin(pool)
    drawn: list[tuple[int, float]] = []
    chosen: list[tuple[int, float]] = []
    while len(pool.picks) < pool.count:
        scores = strategy.score(pool)
        lottery = len(drawn) < random_count
        index = pool.best(
            np.where(np.isfinite(scores), pool.tie_breaker, np.nan) if lottery else scores
        )
        if index is None:
            break
        (drawn if lottery else chosen).append((index, float(scores[index])))
        pool.take(index)
    return chosen + drawn


def suggest(
    predictor: Predictor | None,
    volume: Volume,
    strategy: Strategy,
    settings: QuerySettings,
    folder: RunFolder | None,
    excluded: list[Box],
    earlier: Predictor | None = None,
    entropy: Array | None = None,
) -> Iterator[Event]:
    """Rank every patch of a volume and suggest the best that do not overlap.

    Args:
        predictor: needed by strategies that ask a model.
        volume: the target.
        strategy: what ranks.
        settings: how many, how large.
        folder: of the run, where prediction and uncertainty are kept (see
            `napari_emda.project.stored_prediction.StoredPrediction`) and used again when complete.
        excluded: regions annotated or skipped already.
        earlier: the model of the round before, for strategies that ask it.
        entropy: uint8 (z, y, x), in place of that which the prediction leaves in the folder.

    Yields:
        TileDone while predicting, Notice when not all positions are looked at or fewer patches are found than asked
        for, Suggested at the end: ``volume``, ``box``, ``score`` and ``strategy`` (what drew it) of each region, and
        ``lot`` of those that were drawn by lot: a uniform number, the highest of all that could be drawn.
    """
    candidates = Candidates.of(
        volume.shape, settings.patch, box=settings.box, limit=settings.positions, seed=settings.seed
    )
    if len(candidates) < candidates.total:
        yield Notice(_sampled(candidates))
    features = PatchFeatures(np.full(len(candidates), np.nan), None)
    if strategy.required.model != "none":
        if predictor is None or folder is None:
            raise JobError(strategy.required.missing(strategy.name, Available()))
        features = yield from examine(
            predictor, volume, strategy, settings, folder, candidates, excluded, earlier, entropy
        )
    independent = volume.grid.sections_are_independent
    sections = 0 if independent else settings.section_distance
    pool, picks = _picked(strategy, candidates, features, settings, excluded, sections)
    if len(picks) < settings.count:
        yield Notice(
            f"Only {len(picks)} patches of {settings.patch} pixels are left that were not annotated or skipped, "
            f"{settings.count} were asked for: choose a smaller patch for more."
        )
    ranked = max(0, len(picks) - settings.random_count)
    yield Suggested(
        tuple(
            {"volume": volume.name, "box": str(candidates.box(index)), "score": score}
            | (
                {"strategy": strategy.name}
                if place < ranked
                else {"strategy": "random", "tie_breaker": float(pool.tie_breaker[index])}
            )
            for place, (index, score) in enumerate(picks)
        )
    )


def _picked(
    strategy: Strategy,
    candidates: Candidates,
    features: PatchFeatures,
    settings: QuerySettings,
    excluded: Sequence[Box],
    sections: int,
) -> tuple[Pool, list[tuple[int, float]]]:
    """What is drawn from, and what was; where so many sections apart too few are found, half as many."""
    while True:
        pool = pool_of(
            candidates,
            features,
            settings.count,
            sections=sections,
            seed=settings.seed,
            excluded=excluded,
        )
        picks = choose(strategy, pool, settings.random_count)
        if len(picks) == settings.count or not sections:
            return pool, picks
        sections //= 2


def _sampled(candidates: Candidates) -> str:
    return (
        f"The volume has {candidates.total} patch positions; {len(candidates)} of them, in evenly spaced sections, are "
        "looked at: raise 'positions' to look at more, or choose a box."
    )


def pool_of(
    candidates: Candidates,
    features: PatchFeatures,
    count: int,
    *,
    sections: int,
    seed: int,
    excluded: Sequence[Box] = (),
) -> Pool:
    """The pool of candidates with what was found out about them; arguments as of `Pool`."""
    n, embeddings = len(candidates), features.embeddings
    return Pool(
        candidates,
        count,
        sections=sections,
        seed=seed,
        uncertainty=features.uncertainty[:n],
        embeddings=None if embeddings is None else embeddings[:n],
        annotated=None if embeddings is None else embeddings[n:],
        excluded=excluded,
    )


def examine(
    predictor: Predictor,
    volume: Volume,
    strategy: Strategy,
    settings: QuerySettings,
    folder: RunFolder,
    candidates: Candidates,
    excluded: list[Box],
    earlier: Predictor | None = None,
    entropy: Array | None = None,
) -> Generator[Event, None, PatchFeatures]:
    """Predict a volume, from which patches are painted in; then find out what else the strategy asks for.

    Args:
        predictor: the model.
        volume: the target.
        strategy: what ranks.
        settings: seed and device.
        folder: where prediction and uncertainty are kept.
        candidates: what may be picked.
        excluded: regions annotated or skipped already.
        earlier: the model of the round before, for strategies that ask it.
        entropy: see `suggest`.

    Yields:
        TileDone after each block; nothing is computed that the folder holds already.

    Returns:
        The candidates' uncertainty and embeddings, and those of the excluded boxes behind them.
    """
    prediction = StoredPrediction(folder, volume.name)
    yield from _predicted(predictor, volume, settings, prediction, entropy=strategy.needs_entropy)
    features = PatchFeatures(np.full(len(candidates), np.nan), None)
    if strategy.measures or strategy.needs_embeddings:
        features = yield from patch_features(
            predictor,
            volume,
            windows_of(candidates, excluded if strategy.needs_embeddings else []),
            uncertainty=strategy.uncertainty,
            embeddings=strategy.needs_embeddings,
            seed=settings.seed,
            earlier=earlier,
            keep=prediction.begin_uncertainty(volume.shape, strategy.name)
            if strategy.measures
            else None,
        )
    if strategy.needs_entropy:
        features = replace(
            features,
            uncertainty=means_of(
                prediction.uncertainty if entropy is None else entropy, candidates
            ),
        )
    return features


def _predicted(
    predictor: Predictor,
    volume: Volume,
    settings: QuerySettings,
    prediction: StoredPrediction,
    *,
    entropy: bool,
) -> Iterator[Event]:
    """Predict unless that was done already, and (if asked) its entropy is not overwritten by another measure."""
    if (
        predictor.header.features_only
    ):  # an answer that nobody has taught would only have to be erased
        return
    model = predictor.header.model
    overwritten = entropy and prediction.complete(model, uncertainty=True) and prediction.measure
    if overwritten:
        prediction.forget()
    if overwritten or not prediction.complete(model, uncertainty=entropy):
        yield from predict(
            predictor, volume, PredictSettings(device=settings.device), prediction.run
        )
