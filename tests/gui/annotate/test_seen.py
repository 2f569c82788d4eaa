"""Paint goes into the volume that is seen, or nowhere."""

import numpy as np
import pytest

from tests.gui.annotate.test_patches import on_disk
from tests.gui.suggested import with_suggestions


@pytest.fixture
def patches(session, predicted):
    new_patches = with_suggestions(session, predicted)
    new_patches.next()
    return new_patches


def over(layers):
    layers.move(layers.index("source"), len(layers))
    layers["source"].visible = True


def instead(layers):
    layers["target"].visible = False
    layers["source"].visible = True


def after_removal(layers):
    layers.remove("target")
    layers["source"].visible = True


@pytest.mark.parametrize("change", [over, instead, after_removal])
@pytest.mark.parametrize("outside", [False, True])
def test_nothing_is_painted_while_another_volume_is_seen(session, patches, change, outside):
    patches.paint.tools.allow_outside(outside)
    layers = session.viewer.layers
    layer = session.opened.output("annotations", "target")
    change(layers)
    before = on_disk(patches)
    layer.paint((1, 13, 13), 2)
    layer.fill((1, 7, 7), 1)
    layer.data_setitem(tuple(np.indices((2, 4, 4)).reshape(3, -1)), 2)
    assert np.array_equal(on_disk(patches), before)
    layer.mode = "polygon"
    layer.paint_polygon(np.array([[1, 2, 2], [1, 9, 2], [1, 9, 9]]), 2)
    assert session.notices[-1][1] == (
        "You see 'source' and would paint in 'target': hide 'source' to paint."
    )
    layers["source"].visible = False
    layer.paint((1, 13, 13), 2)
    assert not np.array_equal(on_disk(patches), before)


@pytest.mark.parametrize("change", [over, instead])
def test_the_next_patch_shows_its_volume_again(session, patches, change):
    change(session.viewer.layers)
    patches.next()
    before = on_disk(patches)
    session.opened.output("annotations", "target").paint((3, 20, 20), 2)
    assert not np.array_equal(on_disk(patches), before)


def test_a_volume_below_or_beside_may_be_shown(session, patches):
    session.viewer.layers["source"].visible = True
    before = on_disk(patches)
    layer = session.opened.output("annotations", "target")
    layer.paint((1, 13, 13), 2)
    first = on_disk(patches)
    assert not np.array_equal(first, before)
    over(session.viewer.layers)
    session.viewer.canvas.grid.enabled = True
    layer.paint((1, 14, 5), 2)
    assert not np.array_equal(on_disk(patches), first)
