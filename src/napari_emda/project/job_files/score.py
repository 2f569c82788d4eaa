"""The job of scoring."""

from __future__ import annotations

from typing import ClassVar, Literal

from napari_emda.data.label_meaning import LabelMeaning
from napari_emda.project.job_files.base import ModelJob, jobs
from napari_emda.settings.objects import MinimumSize, Separate, SeparationSettings


@jobs.register("score")
class ScoreJob(ModelJob):
    """Compare a prediction with true labels; what is not predicted yet is predicted first.

    Attributes:
        against: path of the label image.
        background: the number of the background in it; None for 0.
        ignore: the numbers in it that say that nobody looked there; None if nobody said it.
        box: the box that is compared, z0:z1,y0:y1,x0:x1 in voxels; empty for the whole volume.
        objects: whether objects are compared as well as voxels.
        minimum_size: in voxels; smaller objects are not counted.
        separate: where found objects are separated, see `SeparationSettings`.
    """

    noun: ClassVar[str] = "scoring"
    preparing: ClassVar[str] = "Reading the labels"
    work: ClassVar[str] = "napari_emda.jobs.score"

    kind: Literal["score"] = "score"
    against: str
    background: int | None = None
    ignore: tuple[int, ...] | None = None
    box: str = ""
    objects: bool = False
    minimum_size: MinimumSize = 0
    separate: Separate = 0.0

    @property
    def meaning(self) -> LabelMeaning:
        """The meaning of the numbers in the label image."""
        return LabelMeaning(self.background, self.ignore)

    @property
    def object_settings(self) -> SeparationSettings:
        """What counts as an object."""
        return SeparationSettings(minimum_size=self.minimum_size, separate=self.separate)
