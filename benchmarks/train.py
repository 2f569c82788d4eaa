"""What fraction of the bare training speed remains with drawing, augmenting, reporting and saving.

Both loops run in turn in this process, on the same network, method and settings:

* *fixed*: optimiser steps on one batch in device memory;
* *fit*: the real loop, from sampler to checkpoint.

    python benchmarks/train.py --profile fast
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.inference.device import Compute, configure_process
from napari_emda.inference.model_header import ModelHeader
from napari_emda.methods.base import DataSummary
from napari_emda.nn.network import networks
from napari_emda.project.run_folder import RunFolder
from napari_emda.sampling.sampler import PatchSampler
from napari_emda.settings.training import TrainSettings
from napari_emda.synthetic.phantom import SPACING, phantom
from napari_emda.training.loop import Training, fit
from napari_emda.training.state import TrainingState


def training(method: str, settings: TrainSettings, folder: Path, compute: Compute) -> Training:
    image, labels = phantom((8, 512, 512), "source", 0)
    other, _ = phantom((8, 512, 512), "target", 1)
    volumes = [
        Volume("a", image, "source", VoxelGrid(SPACING), labels=labels),
        Volume("b", other, "target", VoxelGrid(SPACING)),
    ]
    sampler = PatchSampler(volumes, settings.patch, settings.batch, seed=settings.seed)
    header = ModelHeader(
        method=method,
        classes=("background", "mitochondria"),
        network={
            "name": settings.network,
            "classes": 2,
            "settings": networks[settings.network].settings_for(settings.profile, {}).model_dump(),
        },
        pixel_size=sampler.pixel_size,
    )
    summary = DataSummary({domain: sampler.quantiles(domain) for domain in sampler.domains})
    state = TrainingState(settings=settings)
    return Training(header.build(summary), sampler, header, state, RunFolder(folder), compute)


def wait(compute: Compute) -> None:
    if compute.device.type == "cuda":
        torch.cuda.synchronize()


def fixed(work: Training, steps: int) -> float:
    batch = work.on_device(work.batch(0), 0)
    for _ in range(3):
        work.step(batch, 0)
    wait(work.compute)
    began = time.perf_counter()
    for step in range(steps):
        work.step(batch, step)
    wait(work.compute)
    return steps / (time.perf_counter() - began)


def whole(work: Training, warm: int) -> float:
    """Steps per second of `fit` after ``warm`` steps, including the last checkpoint."""
    began, first = time.perf_counter(), 0
    for event in fit(work):
        if not first and getattr(event, "step", 0) >= warm:
            began, first = time.perf_counter(), event.step  # type: ignore[attr-defined]
    return (work.settings.steps - first) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="fast")
    parser.add_argument("--method", default="histogram")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--augmentation", default="strong")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    configure_process(arguments.threads, polite=False)
    compute = Compute.choose()
    settings = TrainSettings.for_profile(
        arguments.profile,
        steps=arguments.steps,
        augmentation=arguments.augmentation,
        save_every=arguments.steps,
    )
    ratios = []
    for number in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            bare = fixed(
                training(arguments.method, settings, Path(folder), compute), arguments.steps // 2
            )
            real = whole(training(arguments.method, settings, Path(folder), compute), warm=10)
        ratios.append(real / bare)
        print(
            f"round {number}: fixed batch {bare:.2f} steps/s, fit {real:.2f} steps/s, ratio {real / bare:.2f}"
        )
    print(
        f"{arguments.method}, {arguments.profile}, {settings.augmentation} augmentation, {compute}: "
        f"ratio median {statistics.median(ratios):.2f} of {np.round(ratios, 2).tolist()}"
    )


if __name__ == "__main__":
    main()
