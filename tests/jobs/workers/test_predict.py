"""Prediction in several workers: the same bytes, whatever happens to the workers."""

from __future__ import annotations

import numpy as np
import psutil
import pytest
from distributed import Client

from napari_emda.data.box import Box
from napari_emda.errors import DataError, JobError
from napari_emda.events import Finished, Started, TileDone
from napari_emda.jobs.execute import execute
from napari_emda.jobs.workers import on_worker
from napari_emda.jobs.workers.spread import Spread
from napari_emda.project.owner import Owner
from tests.jobs.workers.conftest import SHAPE, prediction, stored

WHOLE = Box.whole(SHAPE)
# One of the twelve tiles: the second column begins at the chunk.
SPOILT = Box((4, 512, 0), (5, 560, 64))


def blocks_of(events):
    return [Box.from_bounds(event.box) for event in events if isinstance(event, TileDone)]


def test_two_workers_predict_the_same_bytes_as_one_process(folder, scheduler, expected):
    events = list(execute(prediction(folder, scheduler=scheduler)))
    np.testing.assert_array_equal(stored(folder).probabilities[:], expected)
    assert stored(folder).predicted.is_all
    (started,) = [event for event in events if isinstance(event, Started)]
    assert started.device == f"the workers of {scheduler}"
    assert isinstance(events[-1], Finished)
    tiles = [event for event in events if isinstance(event, TileDone)]
    assert [event.done for event in tiles] == list(range(1, len(tiles) + 1))
    assert {event.total for event in tiles} == {len(tiles)}
    assert sum(box.size for box in blocks_of(events)) == WHOLE.size
    # Nothing is left to do.
    assert not blocks_of(execute(prediction(folder, scheduler=scheduler)))


def test_one_process_goes_on_with_what_stopped_workers_have_done(
    folder, scheduler, expected, monkeypatch
):
    monkeypatch.setattr(on_worker, "_REPORT_EVERY", 0.0)
    events = execute(prediction(folder, scheduler=scheduler))
    (done,) = blocks_of([next(event for event in events if isinstance(event, TileDone))])
    events.close()
    assert not on_worker._running
    before = stored(folder).predicted
    assert before.covers(done)
    rest = blocks_of(execute(prediction(folder)))
    assert not any(before.touches(box) for box in rest)
    np.testing.assert_array_equal(stored(folder).probabilities[:], expected)


def test_units_wait_here_and_not_at_workers_that_may_die(folder, scheduler, monkeypatch):
    """Dask counts the deaths of a worker for all units that wait at it, and drops the unlucky."""
    handed_out = []
    submit = Spread._submit

    def counted(self, unit):
        submit(self, unit)
        handed_out.append(len(self._pending))

    monkeypatch.setattr(Spread, "_submit", counted)
    list(execute(prediction(folder, scheduler=scheduler)))
    with Client(scheduler, set_as_default=False) as client:
        workers = len(client.nthreads())
    assert max(handed_out) == workers
    assert len(handed_out) > workers


@pytest.fixture
def spoilt(monkeypatch):
    """Predicting one tile fails, so many times as the list says; tiles that were begun."""
    begun = []
    fails = [100]
    predict_tiles = on_worker.predict_tiles

    def failing(predictor, view, tiles, *arguments):
        for tile in tiles:
            begun.append(tile.native)
            if tile.native == SPOILT and fails[0]:
                fails[0] -= 1
                raise DataError("The prediction contains NaN or infinity: replace them.")
            yield from predict_tiles(predictor, view, [tile], *arguments)

    monkeypatch.setattr(on_worker, "predict_tiles", failing)
    return begun, fails


def test_a_block_that_always_fails_is_named_and_all_others_are_kept(
    folder, scheduler, spoilt, expected
):
    with pytest.raises(JobError) as raised:
        list(execute(prediction(folder, scheduler=scheduler)))
    assert str(raised.value) == (
        f"1 block of 12 of 'wide' cannot be predicted, at {SPOILT}: The prediction contains NaN "
        "or infinity: replace them. All others are done and kept."
    )
    missing = stored(folder).predicted.inside(WHOLE)
    assert not missing[SPOILT.slices].any()
    assert missing.sum() == WHOLE.size - SPOILT.size
    spoilt[1][0] = 0
    assert blocks_of(execute(prediction(folder, scheduler=scheduler))) == [SPOILT]
    np.testing.assert_array_equal(stored(folder).probabilities[:], expected)


def test_a_block_that_fails_once_is_tried_again(folder, scheduler, spoilt, expected):
    spoilt[1][0] = 1
    list(execute(prediction(folder, scheduler=scheduler)))
    np.testing.assert_array_equal(stored(folder).probabilities[:], expected)
    # What was done before it failed is done once.
    begun = spoilt[0]
    assert begun.count(SPOILT) == 2


def test_if_nothing_can_be_predicted_the_job_gives_up(folder, scheduler, monkeypatch):
    def failing(*_):
        raise OSError(28, "No space left on device", "a.zarr")
        yield

    monkeypatch.setattr(on_worker, "predict_tiles", failing)
    with pytest.raises(JobError, match=r"given up after 10 blocks .*No space left on device.*kept"):
        list(execute(prediction(folder, scheduler=scheduler)))


def test_a_worker_writes_only_as_long_as_its_job_owns_the_prediction(folder):
    list(execute(prediction(folder)))
    run = stored(folder).run
    task = on_worker.Task("a", str(folder), run.name, "", "wide", "", Owner.of())
    shared = on_worker._SharedPrediction(run, task)
    write = shared.writer(uncertainty=False)
    before = stored(folder).probabilities[:]
    values = np.full((1, *SPOILT.shape), 7, np.uint8)
    for another in (None, Owner.of(psutil.Process().ppid())):
        if another is not None:
            another.write(run.path / "predicted-by-wide.json")
        with pytest.raises(on_worker.Stopped):
            write(SPOILT, values, None)
    np.testing.assert_array_equal(stored(folder).probabilities[:], before)
    Owner.of().write(run.path / "predicted-by-wide.json")
    write(SPOILT, values, None)
    assert (stored(folder).probabilities[(0, *SPOILT.slices)] == 7).all()
