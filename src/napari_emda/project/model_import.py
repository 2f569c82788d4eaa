"""A model from elsewhere becomes the first run of a project."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from napari_emda.data.appearance import Appearance
from napari_emda.data.domain_gap import DomainGap, between
from napari_emda.data.names import in_print
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Domain, Volume
from napari_emda.errors import DataError, JobError, SettingsError
from napari_emda.io.atomic import replacing_file, write_text
from napari_emda.io.tensor_file import read_tensor_header
from napari_emda.project.job_files import TrainJob
from napari_emda.project.model_file import MOMENTS, OF_VOLUMES, ModelFile, StoredModel, parts_of
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.runs import IMPORTED
from napari_emda.settings.requirements import FIXED
from napari_emda.settings.training import TrainSettings, split_network

# From this ratio on, the pixels of the target show too little of what the network looks for, and
# from the other one a user should know that they are blurred.
_MUCH_COARSER = 4.0
_COARSER = 1.5
# Networks see fine pixels as coarser ones; from this ratio on, small structures are lost.
_MUCH_FINER = 4.0
# Rows of the normalisation statistics, see `nn.normalisation.DOMAINS`.
_DOMAINS: tuple[Domain, ...] = ("source", "target")
_MEANS = "running_mean"
_STATISTICS = (_MEANS, "running_var")
_OFFSET = "offset"
# Weights by which neighbouring sections were averaged; the second name is that of old versions.
_SMOOTHING = ("z_smoothing", "neighbours")
# What belongs to the training alone.
_OF_TRAINING = ("validations", "scores", "losses", "pending")


def check_model(
    model: StoredModel, classes: tuple[str, ...], pixel_size: float, name: str
) -> list[str]:
    """Check that a model can segment a volume.

    Args:
        model: what its file says.
        classes: of the project, background first.
        pixel_size: of the volume, in nm.
        name: of the volume.

    Returns:
        What the user should know although it is no mistake, one sentence each.

    Raises:
        JobError: the model predicts other classes, or looks at pixels of another unit.
        DataError: the volume's pixels are too coarse.
    """
    if model.classes != classes:
        raise JobError(
            f"The model predicts {', '.join(model.classes)}, and the project has the classes "
            f"{', '.join(classes)}: leave out the classes, or choose another model."
        )
    if model.unit != "nm":
        raise JobError(
            f"The model looks at pixels of {model.pixel_size:g} {in_print(model.unit)}, which is "
            "no length: choose a model that was trained on volumes with a voxel size in nm."
        )
    ratio = pixel_size / model.pixel_size
    sizes = f"pixels of {pixel_size:g} nm in '{name}', {model.pixel_size:g} nm in the model"
    if ratio >= _MUCH_COARSER:
        raise DataError(
            f"The target is {ratio:.1f} times as coarse as what the model has learnt from "
            f"({sizes}): check the voxel size, or choose a model of coarser pixels."
        )
    if ratio > _COARSER:
        return [
            f"The target is {ratio:.1f} times as coarse as what the model has learnt from "
            f"({sizes}), so that it may find less."
        ]
    if ratio <= 1 / _MUCH_FINER:
        return [
            f"The target is {1 / ratio:.1f} times as fine as what the model has learnt from "
            f"({sizes}): outlines will be as coarse as the model's pixels."
        ]
    return []


def nearest(
    model: StoredModel, volume: Volume, appearance: Appearance | None = None
) -> tuple[Domain | None, DomainGap | None]:
    """The domain that looks most like a volume, of those that a model knows, and the gap to it.

    Args:
        model: what its file says.
        volume: to be segmented, with a voxel size in the unit of the model.
        appearance: of the volume at the pixel size of the model; None to measure it.
    """
    if not model.profiles:
        return None, None
    seen = appearance or Appearance.of(Resampled(volume, model.pixel_size))
    # Finer pixels are seen as large as those of the model.
    ratio = max(1.0, volume.grid.pixel_size / model.pixel_size)
    gaps = {
        domain: between(profile.appearance, seen, ratio)
        for domain, profile in model.profiles.items()
    }
    domain = min(gaps, key=lambda domain: gaps[domain].distance)
    return domain, gaps[domain]


def import_model(project: Project, file: ModelFile) -> tuple[str, str]:
    """Copy a model into a project, as a run that is trained to its end.

    The copy predicts as the model did on that of its volumes that looks most like the target. What
    belongs to the old volumes alone is left out.

    Args:
        project: with a target, opened exclusively.
        file: of the model, which `check_model` has checked.

    Returns:
        Name of the run, and a sentence on how much the target differs from what the model knows.

    Raises:
        JobError: the file is damaged.
        DataError: the target cannot be compared at the pixel size of the model.
    """
    volume = project.volumes.open(project.volumes.target().name)
    domain, domain_gap = nearest(file.model, volume)
    run = project.runs.new(IMPORTED)
    try:
        _write(project, file, run, domain)
    except BaseException:
        # Also when the user interrupts: the folder must be free for another try.
        shutil.rmtree(run.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            run.path.parent.rmdir()
        raise
    if file.model.is_fixed:
        return run.name, (
            "The model of another program predicts as it is; it can teach a network of this "
            "project, which then learns from patches."
        )
    return run.name, _in_words(domain_gap)


def _write(project: Project, file: ModelFile, run: RunFolder, domain: Domain | None) -> None:
    kept_domain = domain or _measured(file.path)
    with file.path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    description = file.model.description.model_dump(mode="json")
    origin = {"file": file.origin or file.path.name, "sha256": digest, "description": description}
    write_text(run.origin_file, json.dumps(origin, indent=2) + "\n")
    run.write_job(_job(project, file))
    # Last: with it, the run is there.
    with replacing_file(run.checkpoint) as path:
        file.copy(
            path,
            _values(file, kept_domain),
            lambda name, entry, content: _tensor(name, entry, content, kept_domain),
        )


def _in_words(domain_gap: DomainGap | None) -> str:
    if domain_gap is None:
        return (
            "The model is from a version that kept nothing of its volumes: it predicts as it is "
            "and can learn from annotated patches, and source_free adapts it without knowing the "
            "grey values and the class shares of its source."
        )
    return domain_gap.in_words()


def _measured(path: Path) -> Domain:
    """The domain whose normalisation statistics were measured, the source if both were."""
    header = read_tensor_header(path)
    for name, entry in header.entries.items():
        if not name.endswith(f".{_MEANS}") or name.startswith(MOMENTS):
            continue
        first, stop = entry["data_offsets"]
        with path.open("rb") as file:
            file.seek(header.start + first)
            values = file.read(min(stop - first, 2**20))
        # Layers begin with means of 0, which no image keeps.
        return "source" if np.frombuffer(values[: len(values) // 2], np.uint8).any() else "target"
    return "source"


def _tensor(name: str, entry: dict[str, Any], content: bytes, kept_domain: Domain) -> bytes:
    """A tensor of the copy, where the domain that the model knows best is the source."""
    last = name.rsplit(".", 1)[-1]
    # One row for each domain.
    is_of_domains = last in _STATISTICS and [len(_DOMAINS)] == entry.get("shape", [])[:-1]
    if kept_domain == "target" and is_of_domains:
        half = len(content) // len(_DOMAINS)
        return content[half:] * len(_DOMAINS)
    # It brought the class shares of the old target to those of the source.
    if kept_domain == "source" and last == _OFFSET:
        return bytes(len(content))
    return content


def _values(file: ModelFile, kept_domain: Domain) -> dict[str, Any]:
    """The metadata of the copy, in the format of the file."""
    values = deepcopy(file.values)
    model, training = parts_of(values)
    model |= {key: {} for key in OF_VOLUMES if key in model}
    model |= {key: 0.0 for key in _SMOOTHING if key in model}
    model["prediction_domain"] = "source"
    profiles = model.get("profiles", {})
    if kept_domain in profiles:
        shares = profiles[kept_domain].get("shares") or profiles.get("source", {}).get("shares", [])
        model["profiles"] = {"source": profiles[kept_domain] | {"shares": shares}}
    for key in _OF_TRAINING:
        training.pop(key, None)
    # The copy is a model to use, whose training is over.
    model["step"] = max(1, file.model.step)
    training["settings"] = training.get("settings", {}) | {"steps": model["step"]}
    return values


def _job(project: Project, file: ModelFile) -> TrainJob:
    """The job of the run, whose settings later trainings take over."""
    if file.model.is_fixed:
        # A network that is taught by it, or trained after it, is one of ours.
        return TrainJob(project=str(project.folder), method=FIXED)
    _, training = parts_of(file.values)
    settings, flat = split_network(training.get("settings", {}))
    # Of the network in formats without nested settings.
    stored = file.model.network
    network = stored.settings or (flat | split_network(stored.model_extra or {})[1])
    # Boxes, pixel size and device are those of other volumes and of another computer.
    for key in ("source_box", "target_box", "pixel_size", "device", "precision"):
        settings.pop(key, None)
    settings |= {"context": file.model.context, "network": file.model.network.name}
    try:
        parsed = TrainSettings.parse(settings)
    except SettingsError:
        # Of a newer version, perhaps. The model can be used all the same.
        parsed = TrainSettings.parse({key: settings[key] for key in ("context", "network")})
    return TrainJob(
        project=str(project.folder),
        method=file.model.method,
        method_settings=file.model.method_settings,
        settings=parsed,
        network_settings=network,
    )
