"""How long a round of retraining takes: 20 annotated patches of 128 x 128 pixels, profile fast.

python -m benchmarks.retrain --threads 3
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import parser_of
from napari_emda._gui.annotate.retrain import FEW_STEPS, FINE_TUNING
from napari_emda.events import Event
from napari_emda.inference.device import configure_process
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from napari_emda.project.runs import FEW_VALIDATIONS
from napari_emda.settings.training import TrainSettings
from napari_emda.synthetic.phantom import SPACING, phantom

SHAPE, PATCHES, PATCH = (20, 512, 512), 20, 128


def make(
    folder: Path, shape: tuple[int, int, int] = SHAPE, profile: str = "fast", patch: int = PATCH
) -> Project:
    """A project with 20 annotated patches and a model that was trained briefly."""
    project = Project.create(folder, ("background", "mitochondria"))
    image, labels = phantom(shape, "source", 0)
    target, truth = phantom(shape, "target", 0)
    mask = project.volumes.store("labels", labels)
    project.volumes.add(
        project.volumes.store("source", image),
        "source",
        labels=mask,
        name="source",
        spacing=SPACING,
    )
    project.volumes.add(
        project.volumes.store("target", target), "target", name="target", spacing=SPACING
    )
    settings = TrainSettings.for_profile(profile, steps=2, device="cpu", validations=0)
    list(execute(TrainJob(project=str(folder), method="histogram", settings=settings)))
    corners = np.random.default_rng(0).integers(0, shape[1] - patch, (PATCHES, 2)).tolist()
    boxes = [
        f"{z}:{z + 1},{y}:{y + patch},{x}:{x + patch}"
        for z, (y, x) in enumerate(corners[: shape[0]])
    ]
    for region in project.regions.suggest(
        [{"volume": "target", "box": box} for box in boxes], "random", ""
    ):
        project.annotations.accept(region, truth[region.voxels.slices] + 1)
    return project


def phases(events: Iterator[Event]) -> dict[str, list[float]]:
    """Seconds before each kind of event; those of a step are training alone."""
    took: dict[str, list[float]] = defaultdict(list)
    last = time.perf_counter()
    for event in events:
        now = time.perf_counter()
        took[type(event).__name__].append(now - last)
        last = now
    return took


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--steps", type=int, default=FEW_STEPS)
    options = parser.parse_args()
    configure_process(options.threads, polite=False)
    with tempfile.TemporaryDirectory() as temporary, make(Path(temporary) / "project") as project:
        job = project.runs.retrain_job(FINE_TUNING, options.steps)
        settings = job.settings.model_copy(
            update={"report_every": 1, "validations": FEW_VALIDATIONS}
        )
        took = phases(execute(job.model_copy(update={"settings": settings})))
    total, step = sum(map(sum, took.values())), statistics.median(took["Stepped"])
    print(
        f"{options.steps} steps, {options.threads} threads: {total:.0f} s, "
        f"or {total / step:.0f} steps of {step:.2f} s"
    )
    for name, seconds in took.items():
        print(
            f"{name:10s} {len(seconds):4d} times, {sum(seconds):6.1f} s, "
            f"{sum(seconds) / step:6.1f} steps"
        )


if __name__ == "__main__":
    main()
