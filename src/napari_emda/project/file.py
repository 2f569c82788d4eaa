"""``project.json``: the classes and volumes of a project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from napari_emda.data.label_meaning import LabelMeaning
from napari_emda.data.volume import Domain, LabelsZero
from napari_emda.data.voxel_grid import Spacing, VoxelGrid
from napari_emda.errors import JobError
from napari_emda.io.atomic import write_text

# Format 2 has ``sections_are_independent`` instead of ``depth``, its opposite; format 3 may have
# ``labels_meaning``. With a change that this version could not read, raise the number and extend
# `_migrated`.
FORMAT = 3


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VolumeEntry(_Model):
    """A volume of a project: its files, and the meaning of its voxels.

    Attributes:
        name: unique in the project.
        domain: ``source`` or ``target``.
        image: path. If the file is in the project or beside it, the path is relative to the
            project's folder, so that both can be moved together.
        labels: path, as of the image; None for no labels.
        labels_zero: the meaning of 0 in the labels.
        labels_meaning: of all numbers in the labels, if there is more to say than ``labels_zero``
            does, which then has no meaning.
        spacing: voxel size z, y, x in ``unit``.
        unit: see `data.voxel_grid.VoxelGrid`.
        sections_are_independent: see `data.voxel_grid.VoxelGrid`.
    """

    name: str
    domain: Domain
    image: str
    labels: str | None = None
    labels_zero: LabelsZero = "background"
    labels_meaning: LabelMeaning | None = None
    spacing: Spacing
    unit: str = "nm"
    sections_are_independent: bool = False

    @model_serializer(mode="wrap")
    def _without_default(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that versions before format 3 can read all projects that they understand.
        values: dict[str, Any] = serialise(self)
        if self.labels_meaning is None:
            del values["labels_meaning"]
        return values

    @property
    def grid(self) -> VoxelGrid:
        """The grid of the volume's voxels."""
        return VoxelGrid(self.spacing, self.unit, self.sections_are_independent)


class ProjectFile(_Model):
    """The contents of ``project.json``."""

    format: int = FORMAT
    classes: tuple[str, ...]
    volumes: tuple[VolumeEntry, ...] = ()


def read_project_file(path: Path) -> ProjectFile:
    """Read ``project.json``.

    Raises:
        JobError: it is damaged, or newer than this program.
    """
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
        # The first of the errors: one sentence is what the user can act on.
        place = ".".join(str(key) for key in error.errors()[0]["loc"])
        raise JobError(f"'{path}' is damaged at '{place}': restore it from a backup.") from None


def write_project_file(folder: Path, file: ProjectFile) -> None:
    """Write ``project.json`` in a project's folder, whole or not at all."""
    uses_meaning = any(volume.labels_meaning is not None for volume in file.volumes)
    file = file.model_copy(update={"format": FORMAT if uses_meaning else 2})
    write_text(folder / "project.json", file.model_dump_json(indent=2) + "\n")


def _migrated(values: dict[str, Any]) -> dict[str, Any]:
    """Contents of an earlier format in today's format.

    The file keeps its format until the project is changed: reading a project never writes.
    """
    if values["format"] >= 2:
        return values
    volumes = values.get("volumes", [])
    for volume in volumes:
        # The model reports what is damaged, by its place in the file.
        if isinstance(volume, dict):
            volume["sections_are_independent"] = not volume.pop("depth", True)
    return values | {"format": 2, "volumes": volumes}
