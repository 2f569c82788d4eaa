"""What several benchmarks share: trainings and models on the phantom, peak memory."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import zarr

from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.inference.device import Compute
from napari_emda.inference.predictor import Predictor
from napari_emda.jobs.prepare_training import training_on
from napari_emda.project.job_files import TrainJob
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.training import TrainSettings
from napari_emda.synthetic.phantom import SPACING, phantom
from napari_emda.training.trainer import Training

CLASSES = ("background", "mitochondria")


def phantom_pair(side: int, *, annotated: bool = False) -> list[Volume]:
    """The phantom's source with labels, and its target, wholly annotated or not at all."""
    image, labels = phantom((8, side, side), "source", 0)
    other, truth = phantom((8, side, side), "target", 1)
    target = Volume("target", other, "target", VoxelGrid(SPACING))
    if annotated:
        target = replace(target, annotations=truth + np.uint8(1))
    return [Volume("source", image, "source", VoxelGrid(SPACING), labels=labels), target]


def training(
    method: str,
    settings: TrainSettings,
    volumes: Sequence[Volume],
    folder: Path,
    network: Mapping[str, Any] = MappingProxyType({}),
    *,
    validates: bool = False,
) -> Training:
    """What a job would train on these volumes; it ``validates`` only where that is asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    if not validates:
        settings = settings.model_copy(update={"validations": 0})
    job = TrainJob(
        project=str(folder), method=method, settings=settings, network_settings=dict(network)
    )
    work, _ = training_on(
        lambda domain: [volume for volume in volumes if volume.domain == domain],
        CLASSES,
        job,
        RunFolder(folder),
    )
    return work


def predictor(profile: str, folder: Path) -> Predictor:
    """A network that has learnt nothing; speed does not depend on its weights."""
    settings = TrainSettings.for_profile(profile)
    work = training("source_only", settings, phantom_pair(2 * settings.patch), folder)
    return Predictor(work.method.predictor, work.header, work.compute)


def noise_volume(folder: Path, sections: int, side: int) -> Volume:
    """A compressed zarr volume, drawn section by section."""
    rng = np.random.default_rng(0)
    path = folder / "image.zarr"
    image = zarr.create_array(
        path, shape=(sections, side, side), dtype="uint8", chunks=(1, 512, 512)
    )
    for z in range(sections):
        image[z] = rng.integers(0, 255, (side, side), dtype=np.uint8)
    return Volume("image", zarr.open_array(path, mode="r"), "target", VoxelGrid(SPACING))


def wait(compute: Compute) -> None:
    """Until the device has done what it was given."""
    if compute.device.type == "cuda":
        torch.cuda.synchronize()


def print_peak() -> None:
    """The peak resident memory of this process in MiB, as the last word, for `peak`."""
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def peak(module: str, *arguments: str) -> float:
    """Peak resident memory in MiB of a fresh process that runs a benchmark and says it."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])
