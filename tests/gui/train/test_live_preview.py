"""The pair of looks that a style transfer shows."""

from __future__ import annotations

import numpy as np
import pytest

from napari_emda._gui.train.live_preview import show_translation
from napari_emda.events import Translated

NAMES = ("preview, original look", "preview, translated look")


@pytest.fixture
def shown(session, project, tmp_path):
    """A function that has a pair of looks shown at a corner, and gives the two layers."""
    session.adopt(project)

    def show(corner=(2, 10, 20)):
        pair = np.random.default_rng(0).integers(0, 255, (2, 8, 6)).astype(np.uint8)
        np.save(tmp_path / "pair.npy", pair)
        z, y, x = corner
        show_translation(
            session.opened,
            Translated(1, "source", (z, z + 1, y, y + 8, x, x + 6), str(tmp_path / "pair.npy")),
        )
        return pair, [session.opened.output(name, "source") for name in NAMES]

    return show


def test_original_and_translation_lie_at_the_place_of_the_section(shown):
    pair, layers = shown()
    for values, layer in zip(pair, layers, strict=True):
        np.testing.assert_array_equal(layer.data[0], values)
        np.testing.assert_allclose(layer.translate, (2 * 50, 10 * 4.6, 20 * 4.6))
        np.testing.assert_allclose(layer.scale, (50, 4.6, 4.6))
        assert not layer.visible


def test_the_next_pair_takes_the_place_of_the_first(shown, session):
    _, before = shown()
    count = len(session.viewer.layers)
    _, after = shown(corner=(1, 0, 4))
    assert after == before
    assert len(session.viewer.layers) == count
    np.testing.assert_allclose(after[1].translate, (50, 0, 4 * 4.6))


def test_they_go_with_the_other_previews(shown, session):
    shown()
    session.opened.remove_previews("source")
    assert all(session.opened.output(name, "source") is None for name in NAMES)


def test_a_file_that_is_gone_is_no_reason_to_complain(session, project):
    session.adopt(project)
    show_translation(session.opened, Translated(1, "source", (0, 1, 0, 8, 0, 6), "gone.npy"))
    assert session.opened.output(NAMES[0], "source") is None
