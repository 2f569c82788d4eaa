"""Workers of dask in this process, and a project with a model and a volume of some units."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import zarr
from distributed import LocalCluster

from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import PredictJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.training import TrainSettings
from napari_emda.settings.where import Where
from tests.conftest import SMALL_TRAINING

SHAPE = (6, 560, 64)
# One tile a section; two columns.
CUT = {"block": 512, "precision": "32"}


@pytest.fixture(scope="session")
def scheduler():
    """The address of a scheduler with two workers, all in this process."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="session")
def trained_once(make_project, tmp_path_factory):
    """A project with a model and the target ``wide``."""
    folder = tmp_path_factory.mktemp("workers")
    image = np.random.default_rng(0).integers(60, 200, SHAPE).astype(np.uint8)
    zarr.save_array(folder / "wide.zarr", image)
    with make_project(folder / "project") as project:
        project.volumes.add(folder / "wide.zarr", "target", name="wide", spacing=(50, 8, 8))
    job = TrainJob(
        project=str(folder / "project"),
        method="source_only",
        settings=TrainSettings.parse({**SMALL_TRAINING, "steps": 2}),
        network_settings={"base_channels": 8},
    )
    for _ in execute(job):
        pass
    return folder


@pytest.fixture
def folder(trained_once, tmp_path):
    """A copy of the project; images lie beside it."""
    shutil.copytree(trained_once, tmp_path / "copy")
    return tmp_path / "copy" / "project"


@pytest.fixture(scope="session")
def expected(trained_once, tmp_path_factory):
    """The probabilities that one process predicts."""
    copy = tmp_path_factory.mktemp("one") / "copy"
    shutil.copytree(trained_once, copy)
    for _ in execute(prediction(copy / "project")):
        pass
    return stored(copy / "project").probabilities[:]


def prediction(folder, **where):
    """The job of predicting the volume; by default in one process."""
    return PredictJob(project=str(folder), volume="wide", settings=CUT, where=Where(**where))


def stored(folder):
    """What is predicted of the volume."""
    return StoredPrediction(Project.open(folder).run(), "wide")
