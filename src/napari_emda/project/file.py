"""``project.json``: the classes and volumes of a project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from napari_emda.data.label_meaning import LabelMeaning
from napari_emda.data.names import FileName, ShownName, check_shown_name, in_print
from napari_emda.data.volume import Domain, LabelsZero
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import JobError
from napari_emda.io.atomic import write_text
from napari_emda.io.safe_files import read_file
from napari_emda.json_text import parse_json

# Format 2 has ``sections_are_independent`` instead of ``depth``, its opposite; format 3 may have
# ``labels_meaning``. With a change that this version could not read, raise the number and extend
# `_migrated`.
FORMAT = 3


# Annotations are uint8 with 0 for "not annotated", and 255 marks what an import left as it was.
MOST_CLASSES = 254

# Any unit, from metres to picometres, makes numbers within these bounds; sizes beyond would
# overflow where they are multiplied.
_Size = Annotated[float, Field(ge=1e-12, le=1e12)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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

    name: FileName
    domain: Domain
    image: str
    labels: str | None = None
    labels_zero: LabelsZero = "background"
    labels_meaning: LabelMeaning | None = None
    spacing: tuple[_Size, _Size, _Size]
    unit: ShownName = "nm"
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
    classes: tuple[ShownName, ...]
    volumes: tuple[VolumeEntry, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [volume.name for volume in self.volumes]
        if len(set(names)) < len(names):
            raise ValueError("Two volumes have the same name")
        return self


def read_project_file(path: Path) -> ProjectFile:
    """Read ``project.json``.

    Raises:
        JobError: it is damaged, or newer than this program.
    """
    try:
        values = parse_json(read_file(path))
        version = values["format"]
    except OSError as error:
        raise JobError(
            f"'{path}' cannot be read ({error.strerror}): check its permissions and its disk."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise JobError(f"'{path}' is damaged: restore it from a backup.") from None
    if not isinstance(version, int) or not 1 <= version <= FORMAT:
        raise JobError(
            f"The project '{path.parent}' has format {version}, this program knows formats up to "
            f"{FORMAT}: update napari-emda."
        )
    try:
        file = ProjectFile.model_validate(_migrated(values))
    except ValidationError as error:
        # The first of the errors: one sentence is what the user can act on.
        first = error.errors()[0]
        place = ".".join(str(key) for key in first["loc"])
        # Our own checks of names say what is wrong with them.
        is_rule_of_ours = first["type"] == "value_error"
        reason = f" ({first['msg'].removeprefix('Value error, ')})" if is_rule_of_ours else ""
        raise JobError(
            f"'{path}' is damaged at '{in_print(place)}'{reason}: restore it from a backup."
        ) from None
    check_classes(file.classes)
    return file


def check_classes(classes: Sequence[str]) -> None:
    """Check the classes of a project.

    Raises:
        JobError: they are fewer than two or more than can be stored, two have one name, or a name
            cannot be shown.
    """
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise JobError(
            "A project needs at least two classes with different names: background comes first."
        )
    if len(classes) > MOST_CLASSES:
        raise JobError(
            f"The project has {len(classes)} classes, and annotations can tell at most "
            f"{MOST_CLASSES} apart: leave some out, or join them."
        )
    try:
        for name in classes:
            check_shown_name(name)
    except ValueError as error:
        raise JobError(f"{error}: choose another name for the class.") from None


def write_project_file(folder: Path, file: ProjectFile) -> None:
    """Write ``project.json`` in a project's folder, whole or not at all."""
    write_text(folder / "project.json", text_of(file))


def text_of(file: ProjectFile) -> str:
    """The text of ``project.json``, in the oldest format that has all that is in it."""
    uses_meaning = any(volume.labels_meaning is not None for volume in file.volumes)
    file = file.model_copy(update={"format": FORMAT if uses_meaning else 2})
    return file.model_dump_json(indent=2) + "\n"


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
