"""Viewers need a display: pytest-xvfb brings one up."""

import sys

import pytest


@pytest.fixture(autouse=True)
def no_torch():
    """A viewer's process never holds torch, so run these tests apart from the others."""
    assert "torch" not in sys.modules
    yield
    assert "torch" not in sys.modules
