"""Workers that are processes: one is killed, and all of them end with the job."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys

import numpy as np
import pytest

from napari_emda.events import TileDone
from napari_emda.jobs.execute import execute
from tests.jobs.workers.conftest import prediction, stored


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_worker_that_is_killed_is_replaced_and_none_is_left(folder, expected):
    before = set(multiprocessing.active_children())
    killed = None
    for event in execute(prediction(folder, workers=2)):
        if isinstance(event, TileDone) and killed is None:
            killed, *_ = workers = set(multiprocessing.active_children()) - before
            assert len(workers) == 2
            os.kill(killed.pid, signal.SIGKILL)
    assert killed is not None
    np.testing.assert_array_equal(stored(folder).probabilities[:], expected)
    assert set(multiprocessing.active_children()) == before
