"""The job of exporting."""

from __future__ import annotations

from typing import ClassVar, Literal

from napari_emda.project.job_files.base import ModelJob, jobs
from napari_emda.settings.objects import MinimumSize, Threshold


@jobs.register("export")
class ExportJob(ModelJob):
    """Write a result to a file of the user's choice; predicts first what is not predicted yet."""

    noun: ClassVar[str] = "export"
    work: ClassVar[str] = "napari_emda.jobs.export"

    kind: Literal["export"] = "export"
    what: Literal["mask", "objects", "probabilities", "table", "model"]
    to: str
    threshold: Threshold = 0.5
    minimum_size: MinimumSize = 0
    overwrite: bool = False
