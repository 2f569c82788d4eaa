"""``project.json``: the classes and volumes of a project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_emda.data.volume import Domain, LabelsZero
from napari_emda.data.voxel_grid import Spacing, VoxelGrid
from napari_emda.errors import JobError
from napari_emda.io.atomic import write_text

FORMAT = 2
"""Format 2 says ``sections_are_independent`` where format 1 said ``depth``, the opposite."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VolumeEntry(_Model):
    """One volume of a project: where it lies and what its voxels are.

    Paths of files in the project or beside it are relative to its folder, so that all can be
    moved together.
    ``spacing`` and what follows make the volume's `data.voxel_grid.VoxelGrid`.
    """

    name: str
    domain: Domain
    image: str
    labels: str | None = None
    labels_zero: LabelsZero = "background"
    spacing: Spacing
    unit: str = "nm"
    sections_are_independent: bool = False

    @property
    def grid(self) -> VoxelGrid:
        """Of the volume's voxels."""
        return VoxelGrid(self.spacing, self.unit, self.sections_are_independent)


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
            f"The project '{path.parent}' has format {version}, this program knows formats up to "
            f"{FORMAT}: update napari-emda."
        )
    try:
        return ProjectFile.model_validate(_migrated(values))
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise JobError(f"'{path}' is damaged at '{place}': restore it from a backup.") from None


def write_project_file(folder: Path, file: ProjectFile) -> None:
    """Write it into a project's folder, whole or not at all."""
    write_text(folder / "project.json", file.model_dump_json(indent=2) + "\n")


def _migrated(values: dict[str, Any]) -> dict[str, Any]:
    """What a file of an earlier format says, in the words of today's.

    Only what is held in memory changes: the file gets the new format when the project is changed.
    """
    if values["format"] >= 2:
        return values
    volumes = values.get("volumes", [])
    for volume in volumes:
        if isinstance(volume, dict):  # what is damaged is found, and named, by the model
            volume["sections_are_independent"] = not volume.pop("depth", True)
    return values | {"format": 2, "volumes": volumes}
