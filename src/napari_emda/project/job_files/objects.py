"""The job of finding objects."""

from __future__ import annotations

from typing import ClassVar, Literal

from napari_emda.project.job_files.base import ModelJob, jobs
from napari_emda.settings.objects import SeparationSettings


@jobs.register("objects")
class ObjectsJob(ModelJob):
    """Find and measure the objects of a volume; what is not predicted yet is predicted first.

    Attributes:
        class_name: the class whose objects are found; None for every class.
        settings: what counts as an object.
    """

    noun: ClassVar[str] = "search for objects"
    preparing: ClassVar[str] = "Loading the model"
    work: ClassVar[str] = "napari_emda.jobs.objects"

    kind: Literal["objects"] = "objects"
    class_name: str | None = None
    settings: SeparationSettings = SeparationSettings()
