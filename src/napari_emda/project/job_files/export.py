"""The job of exporting."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from napari_emda.project.job_files.base import ModelJob, jobs

_OBJECT_SETTINGS = ("threshold", "minimum_size")


@jobs.register("export")
class ExportJob(ModelJob):
    """Write a result to a file of the user's choice; predicts first what is not predicted yet.

    Attributes:
        what: name of the exporter.
        to: the file.
        class_name: the class, for exporters that take one of several.
        settings: of the exporter.
        overwrite: replace an existing file.
    """

    noun: ClassVar[str] = "export"
    work: ClassVar[str] = "napari_emda.jobs.export"

    kind: Literal["export"] = "export"
    what: str
    to: str
    class_name: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    overwrite: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_old(cls, values: Any) -> Any:
        """Job files of the first version had two settings beside the others, used or not."""
        if not isinstance(values, dict):
            return values
        old = {key: values[key] for key in _OBJECT_SETTINGS if key in values}
        if not old:
            return values
        rest = {key: value for key, value in values.items() if key not in old}
        used = old if values.get("what") not in ("probabilities", "model") else {}
        return {**rest, "settings": {**used, **values.get("settings", {})}}
