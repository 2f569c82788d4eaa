"""The simulated person of the benchmark of clicks: mends patches, in seconds that add up."""

import numpy as np
import pytest

from benchmarks.simulated_painter import CLICK, LEAST, OBJECT, SEE, Painter, Tools
from tests.objects.test_clicks import disc

SIDE = 64


@pytest.fixture
def patch():
    """An image with a disc that the prediction misses in part, and one that it makes up."""
    truth = disc((20, 20), 11, SIDE)
    made_up = disc((48, 46), 8, SIDE)
    image = (120 - 60 * truth).astype(np.uint8)
    stored = np.where(disc((20, 16), 9, SIDE) | made_up, 240, 0).astype(np.uint8)
    stored[truth & (stored == 0)] = 70
    return image, stored, truth, np.where(stored >= 128, OBJECT, 0).astype(np.uint8)


@pytest.mark.parametrize("tools", [Tools(), Tools(objects=True), Tools(smart=True, objects=True)])
def test_a_patch_is_mended_until_no_part_is_worth_an_action(patch, tools):
    image, stored, truth, paint = patch
    before = np.count_nonzero((paint == OBJECT) != truth)
    for done in Painter(image, stored, truth, tools).work(paint):
        after = np.count_nonzero((done.paint == OBJECT) != truth)
        assert before - after >= LEAST
        assert done.seconds >= CLICK
        before = after
    assert before < 40


def test_one_click_drops_what_was_made_up(patch):
    image, stored, truth, paint = patch
    painter = Painter(image, stored, truth, Tools(brush=False, objects=True))
    actions = list(painter.work(paint))
    dropped = next(done for done in actions if done.tool == "object")
    assert dropped.seconds == CLICK + SEE
    assert not (actions[-1].paint == OBJECT)[40:, 36:].any()


def test_a_stroke_takes_as_long_as_it_is(patch):
    image, stored, truth, paint = patch
    fast, slow = (
        sum(done.seconds for done in Painter(image, stored, truth, Tools(), speed).work(paint))
        for speed in (1e9, 50.0)
    )
    assert slow > fast
    number = len(list(Painter(image, stored, truth, Tools(), 1e9).work(paint)))
    assert fast == pytest.approx(number * CLICK, rel=1e-3)
