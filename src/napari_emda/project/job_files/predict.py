"""The job of predicting."""

from __future__ import annotations

from typing import ClassVar, Literal

from napari_emda.project.job_files.base import ModelJob, jobs
from napari_emda.settings.prediction import PredictSettings


@jobs.register("predict")
class PredictJob(ModelJob):
    """Predict a volume; the result is stored in the folder of the run whose model is used.

    Attributes:
        out: path of a file for the probabilities, in addition.
        settings: of the prediction.
    """

    noun: ClassVar[str] = "prediction"
    preparing: ClassVar[str] = "Loading the model"
    work: ClassVar[str] = "napari_emda.jobs.predict"

    kind: Literal["predict"] = "predict"
    out: str | None = None
    settings: PredictSettings = PredictSettings()
