"""What every query strategy keeps, whoever wrote it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_emda.data.volume import Box
from napari_emda.query import Candidates, pick, strategies

NAMES = strategies.names()
SIZES = [((1, 32, 32), 32), ((1, 64, 50), 16), ((5, 48, 64), 32)]


@pytest.fixture(params=NAMES)
def strategy(request):
    cls = strategies[request.param]
    return cls(cls.Settings())


def scored(strategy, shape, patch, seed=0, doubt=None):
    candidates = Candidates.of(shape, patch)
    if doubt is None and strategy.needs_prediction:
        doubt = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    return candidates, strategy.score(candidates, doubt if strategy.needs_prediction else None, seed)


def test_it_introduces_itself_in_a_sentence(strategy):
    first = " ".join(type(strategy).__doc__.split("\n\n")[0].split())
    assert first.endswith(".")
    assert strategies[strategy.name] is type(strategy)


@pytest.mark.parametrize(("shape", "patch"), SIZES)
def test_it_scores_every_candidate_also_of_one_section_and_one_patch(strategy, shape, patch):
    candidates, scores = scored(strategy, shape, patch)
    assert scores.shape == candidates.shape
    assert not np.isinf(scores).any()
    assert len(pick(scores, candidates, 1, within=Box.whole(shape), excluded=[], distance=3)) == 1


def test_the_seed_decides(strategy):
    _, one = scored(strategy, (3, 64, 64), 16, seed=1)
    _, again = scored(strategy, (3, 64, 64), 16, seed=1)
    np.testing.assert_array_equal(one, again)


def test_it_prefers_doubt_when_it_looks_at_the_prediction(strategy):
    if not strategy.needs_prediction:
        pytest.skip("does not look at the prediction")
    doubt = np.zeros((3, 64, 64), np.uint8)
    doubt[1, 16:32, 32:48] = 200
    candidates, scores = scored(strategy, doubt.shape, 16, doubt=doubt)
    ((box, score),) = pick(scores, candidates, 1, within=Box.whole(doubt.shape), excluded=[], distance=3)
    assert box == Box((1, 16, 32), (2, 32, 48))
    assert np.isfinite(score)
