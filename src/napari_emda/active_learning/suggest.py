"""Suggest the best patches of one volume by one strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from napari_emda.active_learning.candidates import Candidates, Pool
from napari_emda.active_learning.measurement import candidate_features, places_for
from napari_emda.active_learning.patch_features import (
    PatchFeatures,
)
from napari_emda.active_learning.strategy import Strategy
from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.padding import PatchPadding
from napari_emda.data.volume import Volume
from napari_emda.errors import JobError
from napari_emda.events import Event, Notice, Suggested
from napari_emda.inference.predictor import Predictor
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.requirements import Available
from napari_emda.settings.suggestion import QuerySettings

Picks = list[tuple[int, float]]
"""Index and score of each picked candidate."""


def choose(strategy: Strategy, pool: Pool, random_count: int = 0) -> Picks:
    """Pick candidates one after the other, best first, then ``random_count`` random ones.

    The random ones are drawn first, from all that may be suggested. A score that is measured on
    them therefore does not depend on the strategy's picks.

    Returns:
        Index and score of each pick; fewer than ``pool.count`` if no more are left.
    """
    if not pool.open.any():
        return []
    strategy.begin(pool)
    random_picks: Picks = []
    ranked_picks: Picks = []
    while len(pool.picks) < pool.count:
        scores = strategy.score(pool)
        if len(random_picks) < random_count:
            # Candidates without a score are left out of the draw as well.
            index = pool.best(np.where(np.isfinite(scores), pool.tie_breaker, np.nan))
            picks = random_picks
        else:
            index = pool.best(scores)
            picks = ranked_picks
        if index is None:
            break
        picks.append((index, float(scores[index])))
        pool.take(index)
    return ranked_picks + random_picks


def suggest(
    predictor: Predictor | None,
    volume: Volume,
    strategy: Strategy,
    settings: QuerySettings,
    folder: RunFolder | None,
    excluded: list[Box],
    earlier: Predictor | None = None,
    entropy: Callable[[], Array | None] = lambda: None,
) -> Iterator[Event]:
    """Rank the patches of a volume and suggest the best that do not overlap.

    Nothing is predicted but what holds candidates. Of a large volume, these are a sample.

    Args:
        predictor: the model, for strategies that ask one.
        volume: the target.
        strategy: ranks the patches.
        settings: how many patches, and how large.
        folder: of the run. Prediction and uncertainty are stored in it, and used again if they are
            complete (see `napari_emda.project.stored_prediction.StoredPrediction`).
        excluded: annotated or skipped regions.
        earlier: the model of the round before, for strategies that ask it.
        entropy: uint8 (z, y, x), in place of that which the prediction leaves in the folder; it is
            called after the prediction, and may return None.

    Yields:
        TileDone while predicting; Notice if candidates are sampled, or if fewer patches are left
        than wanted; Suggested at the end. Each suggested region has ``volume``, ``box``, ``score``
        and ``strategy`` (by which it was picked). A random one also has ``tie_breaker``, a uniform
        number that is the highest of all patches that could be drawn.

    Raises:
        DataError: the volume or the box is smaller than a patch.
        JobError: the strategy asks a model and there is none.
    """
    places = None
    if strategy.required.model != "none" and predictor is not None and folder is not None:
        places = places_for(predictor, volume, strategy, settings, folder)
    candidates = Candidates.of(
        volume.shape,
        settings.patch,
        box=settings.box,
        limit=settings.positions,
        seed=settings.seed,
        places=places,
    )
    if len(candidates) < candidates.total:
        of_what = "drawn at random from all sections"
        setting = "positions"
        if places is not None:
            of_what = f"in squares of {places.side} pixels spread evenly over all sections"
            setting = "voxels"
        yield Notice(
            f"The volume has {candidates.total} patch positions. Only {len(candidates)} of them "
            f"are ranked, {of_what}: raise '{setting}' to rank more, or choose a box."
        )
    features = PatchFeatures(np.full(len(candidates), np.nan), None)
    if strategy.required.model != "none":
        if predictor is None or folder is None:
            raise JobError(strategy.required.missing(strategy.name, Available()))
        features = yield from candidate_features(
            predictor, volume, strategy, settings, folder, candidates, excluded, earlier, entropy
        )
    # In a stack of independent images, the same place of the next section is another scene.
    independent = volume.grid.sections_are_independent
    sections = 0 if independent else settings.section_distance
    padding = PatchPadding(volume)
    pool, picks = _relaxed_choice(
        strategy, candidates, features, settings, excluded, sections, padding
    )
    if len(picks) < settings.count:
        and_padding = " and of padding" if padding.greys else ""
        yield Notice(
            f"Only {len(picks)} of the {settings.count} patches were found: no other patch of "
            f"{settings.patch} pixels is free of annotated or skipped regions{and_padding}. Choose "
            "a smaller patch for more."
        )
    # `choose` puts the random picks last.
    random_from = max(0, len(picks) - settings.random_count)
    yield Suggested(
        tuple(
            {"volume": volume.name, "box": str(candidates.box(index)), "score": score}
            | (
                {"strategy": strategy.name}
                if rank < random_from
                else {"strategy": "random", "tie_breaker": float(pool.tie_breaker[index])}
            )
            for rank, (index, score) in enumerate(picks)
        )
    )


def _relaxed_choice(
    strategy: Strategy,
    candidates: Candidates,
    features: PatchFeatures,
    settings: QuerySettings,
    excluded: Sequence[Box],
    sections: int,
    padding: PatchPadding,
) -> tuple[Pool, Picks]:
    """Choose with ``sections`` between picks; halve the distance until enough picks are found."""
    # A shorter distance is better than fewer patches: at 0 only patches of one section exclude each
    # other. A fresh pool each time, because picking closes candidates.
    while True:
        pool = pool_of(
            candidates,
            features,
            settings.count,
            sections=sections,
            seed=settings.seed,
            excluded=excluded,
            padding=padding,
        )
        # Strategies that group patches would make a group of padding.
        if strategy.needs_embeddings:
            pool.close_padding()
        picks = choose(strategy, pool, settings.random_count)
        if len(picks) == settings.count or not sections:
            return pool, picks
        sections //= 2


def pool_of(
    candidates: Candidates,
    features: PatchFeatures,
    count: int,
    *,
    sections: int,
    seed: int,
    excluded: Sequence[Box] = (),
    padding: PatchPadding | None = None,
) -> Pool:
    """The pool of candidates with their features; for the arguments see `Pool`."""
    n = len(candidates)
    embeddings = features.embeddings
    return Pool(
        candidates,
        count,
        sections=sections,
        seed=seed,
        uncertainty=features.uncertainty[:n],
        # The vectors behind those of the candidates are those of the excluded boxes.
        embeddings=None if embeddings is None else embeddings[:n],
        annotated=None if embeddings is None else embeddings[n:],
        excluded=excluded,
        padding=padding,
    )
