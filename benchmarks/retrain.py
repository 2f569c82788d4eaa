"""How long a round of retraining takes: 20 annotated patches of 128 x 128 pixels, profile fast, from the last model.

python benchmarks/retrain.py --threads 3
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from napari_emda._gui.retrain import FEW_STEPS
from napari_emda.data.phantom import SPACING, phantom
from napari_emda.execution import execute
from napari_emda.jobs import TrainJob
from napari_emda.project import Project
from napari_emda.settings import TrainSettings

SHAPE, PATCHES, PATCH = (20, 512, 512), 20, 128


def make(folder: Path) -> Project:
    """A project with 20 annotated patches and a model that was trained for a moment."""
    project = Project.create(folder, ("background", "mitochondria"))
    image, labels = phantom(SHAPE, "source", 0)
    target, truth = phantom(SHAPE, "target", 0)
    mask = project.store("labels", labels)
    project.add_volume(project.store("source", image), "source", labels=mask, name="source", spacing=SPACING)
    project.add_volume(project.store("target", target), "target", name="target", spacing=SPACING)
    settings = TrainSettings.for_profile("fast", steps=2, device="cpu", validations=0)
    list(execute(TrainJob(project=str(folder), method="histogram", settings=settings)))
    lot = np.random.default_rng(0).integers(0, SHAPE[1] - PATCH, (PATCHES, 2)).tolist()
    boxes = [f"{z}:{z + 1},{y}:{y + PATCH},{x}:{x + PATCH}" for z, (y, x) in enumerate(lot)]
    for region in project.suggest([{"volume": "target", "box": box} for box in boxes], "random", ""):
        project.annotate(region, truth[region.voxels.slices] + 1)
    return project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--steps", type=int, default=FEW_STEPS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary, make(Path(temporary) / "project") as project:
        settings = TrainSettings.for_profile("fast", steps=options.steps, device="cpu")
        job = TrainJob(project=str(project.folder), method="finetune", start_from=project.runs()[-1], settings=settings)
        began = time.perf_counter()
        list(execute(job))
        print(f"{options.steps} steps, {options.threads} threads: {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
