"""Viewers need a display: pytest-xvfb brings one up."""

import sys

import pytest


@pytest.fixture(autouse=True)
def no_torch():
    """As in life: a viewer's process never holds torch (run these tests apart from those of the core)."""
    assert "torch" not in sys.modules
    yield
    assert "torch" not in sys.modules
