"""What fraction of the bare training speed remains with drawing, augmenting, reporting and saving.

Both loops run in turn in this process, on the same network, method and settings:

* *fixed*: optimiser steps on one batch in device memory;
* *fit*: the real loop, from sampler to checkpoint.

    python -m benchmarks.train --profile fast
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import parser_of
from benchmarks.common import phantom_pair, training, wait
from napari_emda.inference.device import Compute, configure_process
from napari_emda.settings.training import TrainSettings
from napari_emda.training.loop import fit
from napari_emda.training.trainer import Training


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
    parser = parser_of(__doc__)
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
            measured, real_one = (
                training(arguments.method, settings, phantom_pair(512), Path(folder) / name)
                for name in ("fixed", "fit")
            )
            bare = fixed(measured, arguments.steps // 2)
            real = whole(real_one, warm=10)
        ratios.append(real / bare)
        print(
            f"round {number}: fixed batch {bare:.2f} steps/s, fit {real:.2f} steps/s, "
            f"ratio {real / bare:.2f}"
        )
    print(
        f"{arguments.method}, {arguments.profile}, "
        f"{settings.augmentation} augmentation, {compute}: "
        f"ratio median {statistics.median(ratios):.2f} of {np.round(ratios, 2).tolist()}"
    )


if __name__ == "__main__":
    main()
