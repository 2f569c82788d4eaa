"""The demo's window: as large as the screen, with source and target side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from qtpy.QtTest import QTest

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
    # The dock takes its width later than the window, and the user may make the canvas narrower.
    assert not dock.data.isHidden()
    for width in (free.width(), 1024):
        resize(viewer, width, qtbot)
        qtbot.waitUntil(lambda: both_are_seen(viewer), timeout=60_000)
    # Whoever has moved the view keeps it.
    viewer.scene.camera.zoom *= 2
    zoom = viewer.scene.camera.zoom
    resize(viewer, 1200, qtbot)
    QTest.qWait(50)
    assert viewer.scene.camera.zoom == zoom


def resize(viewer, width, qtbot):
    window = viewer.window._qt_window
    window.showNormal()
    window.resize(width, window.height())
    qtbot.waitUntil(lambda: window.width() == width, timeout=60_000)


def both_are_seen(viewer):
    """Each side of the canvas shows a volume, whole: the source is brighter, black lies between."""
    columns = viewer.screenshot(canvas_only=True, flash=False)[..., :3].mean((0, 2))
    seen = np.flatnonzero(columns > 40)
    return seen[0] > 0 and seen[-1] < len(columns) - 1 and np.diff(seen).max() > 5
