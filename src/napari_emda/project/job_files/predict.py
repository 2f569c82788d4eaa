"""The job of predicting."""

from __future__ import annotations

from typing import ClassVar, Literal

from napari_emda.project.job_files.base import ModelJob, jobs
from napari_emda.settings.prediction import PredictSettings


@jobs.register("predict")
class PredictJob(ModelJob):
    """Segment a volume into the folder of the run whose model is used.

    Attributes:
        out: a file for the probabilities besides.
        settings: of the prediction.
    """

    noun: ClassVar[str] = "prediction"
    work: ClassVar[str] = "napari_emda.jobs.predict"

    kind: Literal["predict"] = "predict"
    out: str | None = None
    settings: PredictSettings = PredictSettings()
