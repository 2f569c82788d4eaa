"""The job of predicting."""

from __future__ import annotations

from typing import ClassVar, Literal

from napari_emda.project.job_files.base import ModelJob, jobs
from napari_emda.settings.prediction import PredictSettings


@jobs.register("predict")
class PredictJob(ModelJob):
    """Segment a volume with a run's model into the run's folder, and to ``out`` where it is given."""

    noun: ClassVar[str] = "prediction"
    work: ClassVar[str] = "napari_emda.jobs.predict"

    kind: Literal["predict"] = "predict"
    out: str | None = None
    settings: PredictSettings = PredictSettings()
