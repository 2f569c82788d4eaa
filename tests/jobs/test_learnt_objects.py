"""From numbers in a label file to objects that are separated by what a network learnt of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import zarr

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.events import Notice, Started
from napari_emda.inference import checkpoint
from napari_emda.io.tiff import write_tiff
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import ObjectsJob, TrainJob
from napari_emda.project.project import Project
from tests.conftest import SMALL_TRAINING

# Bright squares in pairs that touch; a dark line shows where.
SHAPE = (4, 96, 96)


def pairs():
    """Grey values and numbers of objects."""
    image = np.full(SHAPE, 60, np.uint8)
    ids = np.zeros(SHAPE, np.uint32)
    number = 0
    for y in range(8, 80, 24):
        for x in (8, 24, 52, 68):
            number += 1
            ids[:, y : y + 16, x : x + 16] = 10 * number
            image[:, y : y + 16, x : x + 16] = 200
            image[:, y : y + 16, x : x + 2] = 120
            image[:, y : y + 16, x + 14 : x + 16] = 120
    return image, ids


@pytest.fixture
def project(tmp_path):
    image, ids = pairs()
    grid = VoxelGrid((50, 8, 8))
    write_tiff(tmp_path / "image.tif", iter(image), image.shape, image.dtype, grid)
    write_tiff(tmp_path / "ids.tif", iter(ids), ids.shape, ids.dtype, grid)
    with Project.create(tmp_path / "project", ("background", "square")) as project:
        project.volumes.add(
            tmp_path / "image.tif", "source", labels=tmp_path / "ids.tif", name="source"
        )
        project.volumes.add(tmp_path / "image.tif", "target", name="target")
        yield project


def training(project, **settings):
    return TrainJob(
        project=str(project.folder),
        method="source_only",
        settings={**SMALL_TRAINING, "objects": "contour", "learning_rate": 0.01, **settings},
        network_settings={"base_channels": 8},
    )


def test_touching_squares_are_separated_by_what_was_learnt_from_their_numbers(project):
    events = list(execute(training(project, steps=60, batch=4)))
    assert not [event for event in events if isinstance(event, Notice)]
    run = next(event.run for event in events if isinstance(event, Started))
    header = checkpoint.read_header(checkpoint.find(project.run(run)))
    assert header.network.objects
    counts = []
    for neck in (0, 0.5):
        job = ObjectsJob(
            project=str(project.folder),
            run=run,
            volume="target",
            settings={"separate": neck, "minimum_size": 50},
        )
        counts.append(list(execute(job))[-1].result["classes"]["square"]["objects"])
    assert counts == [6, 12]
    maps = zarr.open_array(project.run(run).object_maps("target"), mode="r")
    assert maps.shape == (2, *SHAPE)
    # Contours are likelier where two squares touch than inside them.
    assert maps[0, :, 8:24, 23:25].mean() > maps[0, :, 12:20, 14:18].mean()


def test_numbers_that_are_no_ids_are_refused_before_the_training(project, monkeypatch):
    volume = project.volumes.open("source")
    ids = np.asarray(volume.ids[:, :, :])
    ids[0, 10, 10] = 2**33
    monkeypatch.setattr(
        "napari_emda.project.volumes.Volumes.open",
        lambda self, name: replace(volume, name=name, ids=ids),
    )
    with pytest.raises(DataError, match="the object id 8589934592: renumber"):
        list(execute(training(project)))
    assert project.runs.names() == []
