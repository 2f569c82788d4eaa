"""Models that come from elsewhere: what their files say, read without torch.

A file may hold anything. Nothing of it is unpickled or executed, its sizes are bounded, and what it
says of itself is checked before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_emda.data.domain_profile import Profiles
from napari_emda.data.model_description import ModelDescription
from napari_emda.data.names import FileName, ShownName, in_print
from napari_emda.data.units import LARGEST_SIZE, SMALLEST_SIZE
from napari_emda.data.volume import Domain
from napari_emda.errors import JobError, naming
from napari_emda.io.atomic import workspace
from napari_emda.io.safe_files import refuse_link
from napari_emda.io.tensor_file import Change, copy_tensors, read_tensor_header
from napari_emda.io.zip_damage import damage_as
from napari_emda.io.zip_file import open_zip
from napari_emda.json_text import parse_json
from napari_emda.project.file import check_classes
from napari_emda.project.package_files import DESCRIPTIONS
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.runs import Runs
from napari_emda.settings.requirements import FIXED

# Format 1 standardised a stack of independent images with one grey range, format 2 each image with
# its own. Format 3 keeps model and training apart and renames some settings. Format 4 may hold
# profiles of what the model learnt from. `inference.checkpoint` reads all.
FORMAT = 4
METADATA = "napari_emda"
"""Name of our metadata in a model's file."""
MOMENTS = "optimiser."
"""Prefix of the moments of the optimiser, which lie in the file of a checkpoint with the weights.

One file is replaced at once, two could be of different steps after a crash."""
OF_VOLUMES = ("statistics", "spoilt")
"""What a model says of the volumes of its training, by their names.

Names say nothing elsewhere, where another volume may have the same one."""
SUFFIX = ".safetensors"
IN_PACKAGE = "napari-emda.safetensors"
"""The model in a package: other programs run its TorchScript, which we never load."""
# Methods of versions whose headers do not say that they found clusters.
_OLD_CLUSTERS = ("iic",)
# Bytes: the largest networks for this purpose have 1.2 GB of weights.
LARGEST_MODEL = 2**32
_STEP = 2**22


class _Network(BaseModel):
    """The name and the settings of a network; in old formats, settings stand beside the name."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: ShownName = "unet"
    settings: dict[str, Any] = {}


class StoredModel(BaseModel):
    """What can be known of a model without torch; the child process checks the rest.

    The fields are those of `inference.model_header.ModelHeader`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    method: FileName
    method_settings: dict[str, Any] = {}
    classes: tuple[ShownName, ...]
    network: _Network
    pixel_size: float = Field(ge=SMALLEST_SIZE, le=LARGEST_SIZE)
    unit: ShownName = "nm"
    profiles: Profiles = {}
    context: int = 0
    prediction_domain: Domain = "source"
    outputs: Literal["classes", "clusters"] = "classes"
    features_only: bool = False
    step: int = Field(0, ge=0)
    description: ModelDescription = ModelDescription()

    @property
    def is_fixed(self) -> bool:
        """Whether it is another program's model, which is not trained."""
        return self.method == FIXED


@dataclass(frozen=True)
class ModelFile:
    """A model's file with its metadata, which are checked.

    Attributes:
        path: of the file.
        values: its metadata as they are, with the format of the version that wrote it.
        model: what they say of the model.
        origin: name of what the user has named, such as a package; by default that of the file.
    """

    path: Path
    values: dict[str, Any]
    model: StoredModel
    origin: str = ""

    @classmethod
    def read(cls, path: Path) -> ModelFile:
        """Read the header of a file.

        Raises:
            JobError: it cannot be read, is no model of napari-emda or damaged, is newer than this
                version, or predicts no classes.
        """
        shown = in_print(str(path))
        try:
            if path.stat().st_size > LARGEST_MODEL:
                raise JobError(
                    f"The model '{shown}' is larger than {LARGEST_MODEL // 2**30} GiB: choose "
                    "another one."
                )
            header = read_tensor_header(path)
            values = parse_json(header.metadata[METADATA])
            version = values["format"]
            if type(version) is int and version > FORMAT:
                raise JobError(
                    f"The model '{shown}' has format {version}: update napari-emda to use it."
                )
            if type(version) is not int or version < 1 or not header.whole:
                raise ValueError
            # ValueError for halves of characters, which no file of the project could hold.
            json.dumps(values, ensure_ascii=False).encode()
            of_model, of_training = parts_of(values)
            model = StoredModel.model_validate(of_model)
            if not isinstance(of_training.get("settings", {}), dict):
                raise ValueError
        except OSError as error:
            raise JobError(
                f"The model '{shown}' cannot be read ({error.strerror}): choose another one."
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
            raise JobError(
                f"'{shown}' is not a model of napari-emda, or is damaged: choose another one."
            ) from None
        check_classes(model.classes)
        if model.features_only:
            raise JobError(
                f"The model '{shown}' was trained without labels and predicts no classes: choose "
                "one that was trained with labels."
            )
        if model.outputs == "clusters" or model.method in _OLD_CLUSTERS:
            raise JobError(
                f"The model '{shown}' has found clusters, which mean nothing elsewhere: train "
                "finetune from it first, and choose that run."
            )
        return cls(path, values, model)

    def share(self, path: Path, description: ModelDescription | None = None) -> None:
        """Write the model as a file for others: without moments, and without names of volumes.

        Args:
            path: is written as it is, so give a partial file.
            description: takes the place of that of the file.

        Raises:
            JobError: the file is damaged.
        """
        values = deepcopy(self.values)
        model, _ = parts_of(values)
        model |= {key: {} for key in OF_VOLUMES if key in model}
        if description is not None:
            model["description"] = description.model_dump(mode="json")
        self.copy(path, values)

    def copy(self, path: Path, values: dict[str, Any], change: Change | None = None) -> None:
        """Copy the file without moments.

        Args:
            path: is written as it is, so give a partial file.
            values: metadata of the copy.
            change: of tensors, see `io.tensor_file.copy_tensors`.

        Raises:
            JobError: the file is damaged.
        """
        metadata = {METADATA: json.dumps(values)}
        try:
            copy_tensors(
                self.path, path, metadata, lambda name: not name.startswith(MOMENTS), change
            )
        except (ValueError, KeyError, TypeError) as error:
            reason = error if isinstance(error, ValueError) else "is damaged"
            raise JobError(
                f"The model '{in_print(str(self.path))}' {reason}: copy it again, or choose "
                "another one."
            ) from None


def parts_of(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What metadata say of the model and of its training, which were one before format 3.

    Raises:
        KeyError: one of them is missing.
    """
    return (values, values) if values["format"] < 3 else (values["model"], values["training"])


@contextmanager
def model_at(path: Path, beside: Path) -> Iterator[ModelFile]:
    """The model that a user has named, while the block runs.

    Args:
        path: a run's folder, a project's folder (its latest run), a model's file, or a package of
            napari-emda as a zip file or folder.
        beside: where a package is unpacked for the time of the block; what is missing of the
            folders above is not made for it.

    Raises:
        JobError: there is no model at this path, or none that can be used.
        OSError: a package cannot be read, or not be unpacked there.
    """
    # The user may name a link.
    path = path.expanduser().resolve()
    if path.is_dir():
        yield ModelFile.read(_in_folder(path))
    elif path.suffix.lower() == ".zip":
        with workspace(at_existing(beside.absolute())) as folder:
            file = ModelFile.read(_unpacked(path, folder / IN_PACKAGE))
            yield replace(file, origin=path.name)
    elif path.suffix.lower() == SUFFIX or not path.exists():
        yield ModelFile.read(path)
    else:
        raise JobError(
            f"'{in_print(str(path))}' is no model: name the folder of a run, a file that ends in "
            f"{SUFFIX}, or a package (.zip)."
        )


def at_existing(path: Path) -> Path:
    """The first part of a path whose folder exists."""
    return next(part for part in (path, *path.parents) if part.parent.is_dir())


def _in_folder(folder: Path) -> Path:
    if any((folder / name).exists() for name in DESCRIPTIONS):
        path = folder / IN_PACKAGE
        if not path.exists():
            raise _foreign(folder)
        refuse_link(path)
        return path
    run = RunFolder(folder)
    if (folder / "project.json").exists():
        latest = Runs(folder).latest()
        if latest is None:
            raise JobError(
                f"The project '{in_print(str(folder))}' has no trained model yet: train one first, "
                "or choose another project."
            )
        run = RunFolder.of(folder, latest)
    path = run.selected if run.selected.exists() else run.checkpoint
    if not path.exists():
        raise JobError(
            f"'{in_print(str(folder))}' is neither the folder of a run nor a project or a model "
            "package: choose one of these."
        )
    return path


def _unpacked(package: Path, path: Path) -> Path:
    """Unpack the model of a package."""
    with (
        damage_as(lambda _: _damaged(package)),
        open_zip(package) as archive,
        naming(path),
    ):
        entry = next((e for e in archive.infolist() if e.filename == IN_PACKAGE), None)
        if entry is None:
            raise _foreign(package)
        with archive.open(entry) as file, path.open("wb") as copy:
            # Counted while it is unpacked: what an archive says of sizes may be a lie.
            _copy(file, copy, package)
    return path


def _copy(file: Any, copy: BinaryIO, package: Path) -> None:
    left = LARGEST_MODEL
    while part := file.read(_STEP):
        left -= len(part)
        if left < 0:
            raise JobError(
                f"The model in '{in_print(str(package))}' is larger than "
                f"{LARGEST_MODEL // 2**30} GiB: choose another one."
            )
        copy.write(part)


def _damaged(package: Path) -> JobError:
    return JobError(
        f"The package '{in_print(str(package))}' is damaged: copy or download it again."
    )


def _foreign(package: Path) -> JobError:
    return JobError(
        f"The package '{in_print(str(package))}' holds no weights as napari-emda stores them: "
        "export it again with this version, or choose a model of napari-emda."
    )
