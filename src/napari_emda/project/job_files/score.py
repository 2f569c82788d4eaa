"""The job of scoring."""

from __future__ import annotations

from typing import ClassVar, Literal

from napari_emda.project.job_files.base import ModelJob, jobs
from napari_emda.settings.objects import MinimumSize


@jobs.register("score")
class ScoreJob(ModelJob):
    """Compare a prediction with true labels; predicts first what is not predicted yet.

    Attributes:
        against: the label image, 0 being background.
        box: the part that is compared, z0:z1,y0:y1,x0:x1 in voxels; empty is all.
        objects: also count the objects that are found.
        minimum_size: smaller objects are not counted, in voxels.
    """

    noun: ClassVar[str] = "scoring"
    work: ClassVar[str] = "napari_emda.jobs.score"

    kind: Literal["score"] = "score"
    against: str
    box: str = ""
    objects: bool = False
    minimum_size: MinimumSize = 0
