"""The job of exporting."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from napari_emda.project.job_files.base import ModelJob, jobs

# In the first version, these were fields of every export job.
_OBJECT_SETTINGS = ("threshold", "minimum_size")


@jobs.register("export")
class ExportJob(ModelJob):
    """Write a result to a file; what is not predicted yet is predicted first.

    Attributes:
        what: name of the exporter.
        to: path of the file.
        box: the part that is written, z0:z1,y0:y1,x0:x1 in voxels; empty for the whole volume.
        class_name: the class, for exporters that write one of several.
        settings: of the exporter.
        overwrite: whether an existing file may be replaced.
    """

    noun: ClassVar[str] = "export"
    preparing: ClassVar[str] = "Loading the model"
    work: ClassVar[str] = "napari_emda.jobs.export"

    kind: Literal["export"] = "export"
    what: str
    to: str
    box: str = ""
    class_name: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    overwrite: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_old(cls, values: Any) -> Any:
        """Read a job file of the first version, see `_OBJECT_SETTINGS`."""
        if not isinstance(values, dict):
            return values
        old = {key: values[key] for key in _OBJECT_SETTINGS if key in values}
        if not old:
            return values
        rest = {key: value for key, value in values.items() if key not in old}
        # They were written for these two exports as well, which have no such settings.
        used = {} if values.get("what") in ("probabilities", "model") else old
        given = values.get("settings", {})
        return {**rest, "settings": used | given if isinstance(given, dict) else given}
