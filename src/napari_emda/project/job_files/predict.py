"""The job of predicting."""

from __future__ import annotations

from typing import ClassVar, Literal

from napari_emda.project.job_files.base import ModelJob, jobs
from napari_emda.settings.prediction import PredictSettings


@jobs.register("predict")
class PredictJob(ModelJob):
    """Predict a volume; the result is stored in the folder of the run whose model is used.

    Attributes:
        box: the part that is predicted, z0:z1,y0:y1,x0:x1 in voxels; empty for the whole volume.
        mask: path of a mask or of labels, coarser ones too: only blocks in which it is not 0 are
            predicted.
        out: path of a file for the probabilities of the box or the volume, in addition.
        settings: of the prediction.
    """

    noun: ClassVar[str] = "prediction"
    preparing: ClassVar[str] = "Loading the model"
    work: ClassVar[str] = "napari_emda.jobs.predict"

    kind: Literal["predict"] = "predict"
    box: str = ""
    mask: str | None = None
    out: str | None = None
    settings: PredictSettings = PredictSettings()
