"""A folder of models that belongs to the user, not to a project."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

from napari_emda.data.appearance import Appearance
from napari_emda.data.domain_gap import DomainGap
from napari_emda.data.model_description import ModelDescription
from napari_emda.data.names import is_device
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.errors import DataError, EmdaError, JobError
from napari_emda.io.atomic import make_folder, replacing_file
from napari_emda.io.unchanged import while_unchanged
from napari_emda.project.model_file import SUFFIX, ModelFile, StoredModel
from napari_emda.project.model_import import nearest

VARIABLE = "NAPARI_EMDA_MODELS"
"""Environment variable that names another folder."""
# Models that are listed: of more, nobody reads the list.
_MOST = 500


def folder_of_models() -> Path:
    """The folder; it need not exist."""
    return Path(os.environ.get(VARIABLE) or platformdirs.user_data_path("napari-emda") / "models")


@dataclass(frozen=True)
class ListedModel:
    """A model of the user's.

    Attributes:
        path: of its file.
        model: what it says of itself.
        domain_gap: between the target and what the model knows; None if they were not compared.
    """

    path: Path
    model: StoredModel
    domain_gap: DomainGap | None = None

    @property
    def name(self) -> str:
        """Of the description, else of the file."""
        return self.model.description.name or self.path.stem


# Read again whenever the list is shown.
_read = while_unchanged(ModelFile.read)


def my_models() -> tuple[list[ListedModel], list[str]]:
    """The models by name, and a sentence for each file that is none, and for too many of them."""
    models = []
    unreadable = []
    paths = sorted(folder_of_models().glob(f"*{SUFFIX}"))
    if len(paths) > _MOST:
        unreadable.append(
            f"Only the first {_MOST} of {len(paths)} models are listed: move some to another "
            "folder."
        )
    for path in paths[:_MOST]:
        try:
            models.append(ListedModel(path, _read(path).model))
        except EmdaError as error:
            unreadable.append(str(error))
    return sorted(models, key=lambda listed: listed.name.lower()), unreadable


def by_gap(models: Sequence[ListedModel], target: Volume) -> list[ListedModel]:
    """The models with their gap to a target, the closest first, those without one last.

    Args:
        models: of the user.
        target: with a voxel size in nm.
    """
    # Models of one pixel size see the target alike.
    appearances: dict[tuple[float, str], Appearance | None] = {}
    compared = []
    for one in models:
        size = (one.model.pixel_size, one.model.unit)
        if size not in appearances:
            appearances[size] = _appearance_of(target, one.model)
        appearance = appearances[size]
        domain_gap = None if appearance is None else nearest(one.model, target, appearance)[1]
        compared.append(replace(one, domain_gap=domain_gap))
    return sorted(
        compared,
        key=lambda one: (
            one.domain_gap is None,
            0 if one.domain_gap is None else one.domain_gap.distance,
        ),
    )


def _appearance_of(target: Volume, model: StoredModel) -> Appearance | None:
    """How a target appearances at the pixel size of a model; None if it cannot be seen so."""
    if model.unit != target.grid.unit:
        return None
    try:
        return Appearance.of(Resampled(target, model.pixel_size))
    # At this size, the target would be too large.
    except DataError:
        return None


def add_model(
    file: ModelFile, description: ModelDescription, stem: str, out: Path | None = None
) -> Path:
    """Copy a model into the folder.

    Args:
        file: of the model.
        description: what to say of it; what is empty is taken from the model.
        stem: of its name if nobody gives one.
        out: the file, if it is to lie elsewhere.

    Returns:
        The path of the file.

    Raises:
        JobError: there is a model of this name already.
    """
    folder = folder_of_models()
    given = {key: value for key, value in description.model_dump().items() if value}
    values = file.model.description.model_dump() | given
    values["name"] = values["name"] or f"{file.model.classes[-1]} {stem}"
    if out is None:
        make_folder(folder)
        name = re.sub(r"[^\w.-]+", "_", values["name"]).strip("._-") or "model"
        # Windows has no such files.
        name = f"model_{name}" if is_device(name) else name
        path = folder / f"{name}{SUFFIX}"
    else:
        path = out
    if path.exists():
        raise JobError(f"There is a model '{values['name']}' already ({path}): give another name.")
    with replacing_file(path) as partial:
        file.share(partial, ModelDescription.model_validate(values))
    return path
