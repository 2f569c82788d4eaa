"""A project, a viewer without a window, and a child that needs no torch."""

import json
import shutil

import numpy as np
import pytest
import zarr
from napari.components import ViewerModel

from napari_emda._gui.process.catalogue import parse
from napari_emda._gui.session import Session
from napari_emda.project.project import Project
from tests.gui.fake import CATALOGUE, clusters_of, fake_command
from tests.predictions import note_as_predicted

SHAPE = (5, 48, 40)
SPACING = (50.0, 4.6, 4.6)


@pytest.fixture
def catalogue():
    return parse(json.dumps(CATALOGUE))


def new_arrays():
    """An image and its labels."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, SHAPE).astype(np.uint8)
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 10:20, 10:20] = 1
    return image, labels


@pytest.fixture
def arrays():
    return new_arrays()


@pytest.fixture(scope="session")
def project_folder(tmp_path_factory):
    """The folder of `project`, to be copied: writing it for each test would take longer."""
    image, labels = new_arrays()
    folder = tmp_path_factory.mktemp("project") / "project"
    with Project.create(folder, ("background", "mitochondria")) as project:
        for name, domain in (("source", "source"), ("target", "target")):
            path = project.volumes.store(name, image)
            mask = project.volumes.store(f"{name}-labels", labels) if domain == "source" else None
            project.volumes.add(path, domain, labels=mask, name=name, spacing=SPACING)
    return folder


@pytest.fixture
def project(tmp_path, project_folder):
    shutil.copytree(project_folder, tmp_path / "project")
    with Project.open(tmp_path / "project", exclusive=True) as new_project:
        yield new_project


@pytest.fixture
def predicted(project):
    """The project with a model and its prediction of the target: a square of foreground."""
    run = project.folder / "runs" / "001-fake"
    run.mkdir(parents=True)
    (run / "checkpoint.safetensors").touch()
    values = np.zeros((1, *SHAPE), np.uint8)
    values[:, :, 2:12, 2:12] = 230
    for group, array in (("probabilities.zarr", values), ("uncertainty.zarr", values[0])):
        zarr.open_group(run / group, mode="a")
        zarr.create_array(run / group / "target", data=array, chunks=(1, *array.shape[1:]))
    note_as_predicted(run, "target", SHAPE)
    return project


@pytest.fixture
def clustered(tmp_path, arrays):
    """A project with one unlabelled volume, and a model that has found three clusters (stripes)."""
    project = Project.create(tmp_path / "clustered", ("background", "mitochondria", "vesicles"))
    project.volumes.add(
        project.volumes.store("target", arrays[0]), "target", name="target", spacing=SPACING
    )
    clusters_of(project, "target")
    yield project
    project.close()


@pytest.fixture
def session(qapp):
    new_session = Session(ViewerModel(), fake_command())
    new_session.notices = []
    new_session.said.connect(lambda text, kind: new_session.notices.append((kind, text)))
    yield new_session
    new_session.close()
