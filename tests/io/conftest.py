"""The volume that tests of formats write."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, (5, 33, 41), dtype=np.uint8)
