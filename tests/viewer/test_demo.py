"""The demo's window: as large as the screen, with source and target side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_emda._gui.demo import show_demo
from napari_emda.synthetic import sample_pair


def test_the_window_fills_the_screen_and_shows_both_volumes(make_napari_viewer, monkeypatch, qtbot):
    for domain, recording in sample_pair.RECORDINGS.items():
        small = replace(recording, shape=(4, 96, 64))
        monkeypatch.setitem(sample_pair.RECORDINGS, domain, small)
    viewer = make_napari_viewer(show=True)
    dock = show_demo(viewer)
    free = dock.screen().availableGeometry()
    window = dock.window().geometry()
    # A frame takes some of the screen where a window manager runs.
    assert window.width() > 0.9 * free.width()
    assert window.height() > 0.85 * free.height()
    source, _, target = viewer.layers
    assert source.extent.world[1, 2] < target.extent.world[0, 2]
    # Each side of the canvas shows one of them: the source is brighter, and black lies between.
    columns = viewer.screenshot(canvas_only=True, flash=False)[..., :3].mean((0, 2))
    seen = np.flatnonzero(columns > 40)
    assert seen[0] > 0 and seen[-1] < len(columns) - 1, "cut off at the edge of the canvas"
    assert np.diff(seen).max() > 5, "no gap between the two"
