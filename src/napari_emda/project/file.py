"""``project.json``: the classes and volumes of a project."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_emda.data.volume import Domain, LabelsZero
from napari_emda.errors import JobError

FORMAT = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VolumeEntry(_Model):
    """One volume of a project: where it lies and what its voxels are.

    Paths of files in the project or beside it are relative to its folder, so that all can be moved together. ``depth``
    is false for a stack of independent images; see `data.volume.Volume`.
    """

    name: str
    domain: Domain
    image: str
    labels: str | None = None
    labels_zero: LabelsZero = "background"
    spacing: tuple[float, float, float]
    unit: str = "nm"
    depth: bool = True


class ProjectFile(_Model):
    """What ``project.json`` holds."""

    format: int = FORMAT
    classes: tuple[str, ...]
    volumes: tuple[VolumeEntry, ...] = ()


def read_project_file(path: Path) -> ProjectFile:
    """Read it; JobError when it is damaged or newer than this program."""
    try:
        values = json.loads(path.read_text("utf-8"))
        version = values["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise JobError(f"'{path}' is damaged: restore it from a backup.") from None
    if not isinstance(version, int) or version > FORMAT:
        raise JobError(
            f"The project '{path.parent}' has format {version}, this program knows formats up to {FORMAT}: update "
            "napari-emda."
        )
    try:
        return ProjectFile.model_validate(values)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise JobError(f"'{path}' is damaged at '{place}': restore it from a backup.") from None
