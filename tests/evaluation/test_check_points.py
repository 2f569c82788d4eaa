"""Drawing check points: known probabilities, block by block, nowhere that nobody can be asked."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from napari_emda.data.probabilities import against_background
from napari_emda.evaluation import check_points
from napari_emda.evaluation.check_points import draw


class Chunked(np.ndarray):
    chunks = (1, 2, 16, 8)


@pytest.fixture(params=[1, 3])
def stored(request):
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(request.param + 1, 0.3), (6, 32, 24))[..., 1:]
    values = np.moveaxis((255 * weights).astype(np.uint8), -1, 0)
    return np.ascontiguousarray(values).view(Chunked)


def result_of(steps):
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def right_half(box):
    mask = np.zeros(box.shape, bool)
    mask[..., max(0, 12 - box.start[2]) :] = True
    return mask


def test_voxels_are_drawn_in_proportion(stored, monkeypatch):
    # Blocks of two chunks: every point goes through the choice of a block.
    monkeypatch.setattr(check_points, "block_shape", lambda array: (2, 16, 8))
    points, counts = result_of(draw(stored, 20_000, 1, right_half))
    askable = right_half(check_points.Box.whole(stored.shape[1:]))
    ids, levels = against_background(np.asarray(stored))
    assert counts.sum() == askable.sum()
    p = levels / 255
    wanted = np.where(askable, np.sqrt(p * (1 - p)) + 0.05, 0)
    drawn = np.zeros(levels.shape)
    for point in points:
        drawn[point.voxel] += 1
        assert (point.best, point.level) == (ids[point.voxel], levels[point.voxel])
    assert not drawn[~askable].any()
    # By section, and by column: neither the choice of blocks nor that of voxels is biased.
    for axes in ((1, 2), (0, 1)):
        expected = wanted.sum(axes) / wanted.sum() * len(points)
        observed = drawn.sum(axes)
        assert chisquare(observed[expected > 0], expected[expected > 0]).pvalue > 1e-4
    high = levels > 100
    assert drawn[high].sum() == pytest.approx(
        wanted[high].sum() / wanted.sum() * len(points), rel=0.05
    )


def test_a_draw_is_repeated_by_its_seed(stored):
    first, counts = result_of(draw(stored, 30, 5))
    assert result_of(draw(stored, 30, 5))[0] == first
    assert result_of(draw(stored, 30, 6))[0] != first
    assert counts.shape == (len(stored), 256)


def test_nothing_is_drawn_where_nobody_can_be_asked(stored):
    nowhere = lambda box: np.zeros(box.shape, bool)  # noqa: E731
    assert result_of(draw(stored, 10, 0, nowhere))[0] == []
