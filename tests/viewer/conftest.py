"""Viewers need a display: pytest-xvfb brings one up."""

import gc
import sys

import pytest


@pytest.fixture(autouse=True)
def no_torch():
    """A viewer's process never holds torch, so run these tests apart from the others."""
    assert "torch" not in sys.modules
    yield
    assert "torch" not in sys.modules


@pytest.fixture
def make_napari_viewer(collected, make_napari_viewer):
    """napari's own, which fails if a viewer of an earlier test has not been freed yet."""
    return make_napari_viewer


@pytest.fixture
def collected():
    # napari collects the youngest objects only, and viewers that lived long are none of these.
    gc.collect()
