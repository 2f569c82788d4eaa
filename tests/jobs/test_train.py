"""What the job of a training says of the sections that its network sees."""

from __future__ import annotations

import numpy as np
import pytest

from napari_emda.data.box import Box
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import Finished, Notice, Stepped
from napari_emda.inference.predictor import Predictor
from napari_emda.io.tiff import write_tiff
from napari_emda.jobs.execute import execute
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.project.job_files import PredictJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.project.stored_prediction import StoredPrediction
from tests.conftest import CLASSES, SMALL_TRAINING, SPACING


@pytest.fixture
def spoilt(phantoms, phantom_files, tmp_path):
    """A project whose target has a black section."""
    image = phantoms["target"][0].copy()
    image[2] = 0
    path = tmp_path / "target.tif"
    write_tiff(path, iter(image), image.shape, image.dtype, VoxelGrid(SPACING))
    with Project.create(tmp_path / "project", CLASSES) as project:
        project.volumes.add(
            phantom_files["source", "image"],
            "source",
            labels=phantom_files["source", "labels"],
            name="source",
        )
        project.volumes.add(path, "target", name="target")
        yield project


def job(project, **values):
    return TrainJob(
        project=str(project.folder),
        method="auto",
        settings={**SMALL_TRAINING, "steps": 3, "context": 1},
        network_settings={"base_channels": 8},
        **values,
    )


def notices(events):
    return [event.text for event in events if isinstance(event, Notice)]


def test_a_spoilt_section_is_said_once_by_the_training_that_sees_it(spoilt):
    request = PreviewRequest()
    request.set("target", Box((1, 0, 0), (2, 96, 96)))
    events = execute(job(spoilt), request)
    said = []
    for event in events:
        said.append(event)
        if isinstance(event, Stepped):
            break
    events.close()
    (sentence,) = notices(said)
    assert sentence.startswith("Section 2 of 'target' is empty or unlike the neighbours")
    (run,) = spoilt.runs.names()
    resumed = list(execute(job(spoilt, resume=run)))
    assert isinstance(resumed[-1], Finished)
    assert notices(resumed) == []
    # Neither does the prediction say it again, which leaves out the same section.
    assert notices(execute(PredictJob(project=str(spoilt.folder), run=run))) == []
    predictor = Predictor.load(spoilt.run(run).path)
    target = spoilt.volumes.open("target")
    assert predictor.context_of(target).sections.tolist() == [
        [1, 0, 1],
        [0, 1, 1],
        [1, 2, 3],
        [3, 3, 3],
    ]
    stored = StoredPrediction(spoilt.run(run), "target")
    assert np.asarray(stored.probabilities).shape == (1, 4, 96, 96)


def test_single_sections_have_nothing_to_say(spoilt):
    settings = {**SMALL_TRAINING, "steps": 1}
    alone = job(spoilt).model_copy(update={"settings": job(spoilt).settings.parse(settings)})
    assert notices(execute(alone)) == []
