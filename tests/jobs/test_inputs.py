"""A job says so when the model that it uses by default is that of an interrupted training."""

from napari_emda.events import Notice, Stepped
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import PredictJob, TrainJob
from napari_emda.settings.training import TrainSettings
from tests.conftest import SMALL_TRAINING


def test_the_model_of_an_interrupted_training_is_never_used_in_silence(project):
    settings = TrainSettings.parse({**SMALL_TRAINING, "steps": 100, "save_every": 1000})
    small = {"base_channels": 8}
    folder = str(project.folder)
    training = execute(
        TrainJob(project=folder, method="source_only", settings=settings, network_settings=small)
    )
    assert any(isinstance(event, Stepped) for event in training)
    training.close()
    (run,) = project.runs.names()
    step = project.run(run).saved_step
    assert 0 < step < 100
    predicting = execute(PredictJob(project=folder))
    (notice,) = [
        event.text for event in (next(predicting), next(predicting)) if isinstance(event, Notice)
    ]
    predicting.close()
    assert notice == (
        f"The model of {run} is used, although the training was interrupted at step {step} of 100."
    )
