"""Objects and images block by block on workers: the same bytes as one process, and failures."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest
import zarr
from distributed import Client
from scipy import ndimage

from napari_emda.data.blocks import chunk_shape
from napari_emda.data.box import Box
from napari_emda.errors import JobError
from napari_emda.events import Finished, Notice, TileDone
from napari_emda.jobs.execute import execute
from napari_emda.jobs.workers import on_worker, pool, spread_blocks
from napari_emda.jobs.workers.spread_blocks import SpreadBlocks
from napari_emda.objects import components, separation, suspicion, table
from napari_emda.project.job_files import ExportJob, ObjectsJob
from napari_emda.settings.objects import SeparationSettings
from napari_emda.settings.where import Where
from tests.jobs.workers.conftest import SHAPE, prediction, stored

ITEMS = [(Box((z, 0, 0), (z + 1, 4, 4)), z) for z in range(40)]


@pytest.fixture
def client(scheduler):
    """A client of two workers in this process."""
    with Client(scheduler, set_as_default=False) as client:
        client.register_plugin(on_worker.WorkerSetup(None))
        yield client


@pytest.fixture
def runner(client):
    return SpreadBlocks(client, "wide", lambda: None)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of which a volume of this size has many, in every pass."""
    monkeypatch.setattr(components, "_CHUNK", (3, 192, 32))
    monkeypatch.setattr(separation, "_BLOCK", (3, 192, 32))
    for module in (components, table, suspicion):
        monkeypatch.setattr(module, "block_shape", lambda array, *_: chunk_shape(array))
    monkeypatch.setattr("napari_emda.io.pyramid.CHUNK", (3, 192, 32))
    monkeypatch.setattr("napari_emda.io.pyramid.COARSEST", 128)
    monkeypatch.setattr("napari_emda.io.pyramid.block_shape", lambda array, *_: chunk_shape(array))
    monkeypatch.setattr(pool, "_ONE_BLOCK", 0)


@pytest.fixture
def predicted(folder):
    """The project, whose prediction is round objects that touch, over all blocks."""
    for _ in execute(prediction(folder)):
        pass
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), (1, 4, 4))
    array = zarr.open_array(stored(folder).run.probabilities("wide"), mode="r+")
    array[0] = np.where(noise > 0, 230, 10)
    return folder


def content(folder):
    """The bytes of all files, by their names in a folder; of one file, its bytes."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [*paths, *([folder] if folder.is_file() else [])]
    }


def leftovers(folder):
    return [path.name for path in folder.rglob(".*") if path.is_dir()]


def test_results_come_in_the_order_of_the_blocks(runner):
    def work(box, z):
        # The first ones take longest.
        time.sleep(0.03 if z < 2 else 0)
        return box.start[0], z

    assert list(runner.map(work, ITEMS)) == [(z, z) for z in range(40)]


def test_objects_of_many_processes_are_those_of_one(
    predicted, scheduler, small_blocks, monkeypatch
):
    job = ObjectsJob(
        project=str(predicted),
        volume="wide",
        settings=SeparationSettings.parse({"separate": 0.6, "minimum_size": 5}),
    )
    here = [event for event in execute(job) if isinstance(event, TileDone)]
    found = predicted / "runs"
    expected = content(found)
    calls = []
    spread = SpreadBlocks.map

    def noted(self, work, items):
        calls.append((type(work).__name__, len(items) > 1))
        return spread(self, work, items)

    monkeypatch.setattr(SpreadBlocks, "map", noted)
    events = list(execute(job.model_copy(update={"where": Where(scheduler=scheduler)})))
    assert isinstance(events[-1], Finished)
    assert events[-1].result["classes"]["mitochondria"]["objects"] > 20
    assert content(found) == expected
    # What is written, beside what is only measured.
    passes = ("_Label", "_FindBulges", "_FindMeeting", "Renumber", "_FindShapes")
    assert {(name, True) for name in passes} <= set(calls)
    assert [event for event in events if isinstance(event, TileDone)] == here
    assert not leftovers(found)


@pytest.mark.parametrize(
    ("what", "ending"),
    [
        ("mask", ".zarr"),
        ("objects", ".sharded.zarr"),
        ("objects", ".precomputed"),
        ("table", ".csv"),
    ],
)
def test_exports_of_many_processes_are_those_of_one(
    what, ending, predicted, scheduler, small_blocks, tmp_path
):
    for name, where in (("one", Where()), ("many", Where(scheduler=scheduler))):
        (tmp_path / name).mkdir()
        job = ExportJob(
            project=str(predicted),
            volume="wide",
            what=what,
            settings={"minimum_size": 5},
            to=str(tmp_path / name / f"result{ending}"),
            where=where,
        )
        assert isinstance(list(execute(job))[-1], Finished)
    assert content(tmp_path / "many") == content(tmp_path / "one") != {}


def test_a_block_that_fails_is_named_and_nothing_is_left(
    predicted, scheduler, small_blocks, monkeypatch
):
    before = content(predicted)
    bad = Box((3, 192, 32), (6, 384, 64))

    def work(self, box):
        if box == bad:
            raise OSError(28, "No space left on device")
        return label(self, box)

    label = components._Label.__call__
    monkeypatch.setattr(components._Label, "__call__", work)
    job = ObjectsJob(project=str(predicted), volume="wide", where=Where(scheduler=scheduler))
    with pytest.raises(JobError, match=rf"^The block {bad} of 'wide' .*(space|disk|full)") as error:
        list(execute(job))
    assert "\n" not in str(error.value)
    assert content(predicted) == before
    assert not leftovers(predicted)


# What is sent to workers is found there by its name, and so shares these lists.
begun = []


def fails_once(box, z):
    begun.append(z)
    if z == 7 and begun.count(z) == 1:
        raise OSError
    return z


def slow(box, z):
    begun.append(z)
    time.sleep(0.02)


def test_a_block_that_fails_once_is_done_again(runner):
    begun.clear()
    assert list(runner.map(fails_once, ITEMS)) == list(range(40))
    assert begun.count(7) == 2


def test_after_a_stop_nothing_more_is_begun(runner):
    begun.clear()
    results = runner.map(slow, ITEMS)
    next(results)
    results.close()
    count = len(begun)
    time.sleep(0.2)
    assert len(begun) == count < len(ITEMS)


def test_without_workers_this_process_goes_on(monkeypatch):
    class Nobody:
        status = "running"

        def nthreads(self):
            return {}

    monkeypatch.setattr(spread_blocks, "_LOOK", 0.001)
    monkeypatch.setattr(spread_blocks, "_ALONE", 0.01)
    runner = SpreadBlocks(Nobody(), "wide", lambda: None)
    assert list(runner.map(lambda box, z: z, ITEMS)) == list(range(40))


def test_a_folder_that_workers_do_not_see_is_written_by_this_process(
    predicted, scheduler, small_blocks, tmp_path, monkeypatch
):
    monkeypatch.setattr(on_worker, "reads", lambda path: b"")
    job = ExportJob(
        project=str(predicted),
        volume="wide",
        what="mask",
        to=str(tmp_path / "mask.zarr"),
        where=Where(scheduler=scheduler),
    )
    events = list(execute(job))
    (said,) = [e.text for e in events if isinstance(e, Notice) and "do not see" in e.text]
    assert str(tmp_path) in said
    assert isinstance(events[-1], Finished)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".zarr"] == ["mask.zarr"]
