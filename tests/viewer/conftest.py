"""Viewers need a display: pytest-xvfb brings one up."""

import gc
import sys

import pytest
from napari._qt.qt_viewer import QtViewer


@pytest.fixture(autouse=True)
def no_torch():
    """A viewer's process never holds torch, so run these tests apart from the others."""
    assert "torch" not in sys.modules
    yield
    assert "torch" not in sys.modules


@pytest.fixture
def make_napari_viewer(viewers_freed, make_napari_viewer):
    """napari's own, which fails if a viewer of an earlier test has not been freed."""
    return make_napari_viewer


@pytest.fixture
def viewers_freed():
    # napari collects the youngest objects only, and viewers that lived long are none of these. It
    # keeps a window itself that was closed as users close it, which ends the program otherwise.
    gc.collect()
    QtViewer._instances.clear()
