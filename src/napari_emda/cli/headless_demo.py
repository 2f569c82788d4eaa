"""The whole workflow on the phantom, without a screen.

Adapt, suggest, annotate, retrain, predict and export.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from napari_emda.data.volume import Domain
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import Event
from napari_emda.io.tiff import write_tiff
from napari_emda.jobs.execute import execute
from napari_emda.nn.network import networks
from napari_emda.project.job_files import ExportJob, ScoreJob, SuggestJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import TrainSettings
from napari_emda.synthetic.phantom import SPACING, phantom

SHAPE = (24, 384, 256)
# Adaptation and annotation see the upper half of the target, and scores are made on the lower one.
# The 16 rows between keep the pixels that are scored away from those that were seen.
TRAINED = ":,0:192,:"
TESTED = ":,208:384,:"
# The whole demo took 2 min 15 s on two cores (docs/benchmarks.md).
STEPS = 600
ROUND_STEPS = 200
ROUNDS = 2
PATCHES = 5
PATCH = 64
CLASSES = ("background", "mitochondria")
# Larger than the default: within a thousand steps larger rates gave better models, see `PROFILES`
# in settings/training.py. Every row but one also uses the profile's weak augmentation, so that the
# rows differ by the adaptation alone.
LEARNING: dict[str, Any] = {"learning_rate": 2e-3}

Watch = Callable[[Generator[Event]], dict[str, Any]]


def make_project(folder: Path, seed: int) -> tuple[Project, Path]:
    """Make a project of the phantom's source and target.

    Args:
        folder: of the project; the images are written beside it, into ``FOLDER-data``.
        seed: of the phantom.

    Returns:
        The project and the label image of the target.
    """
    paths = {}
    data = folder.with_name(folder.name + "-data")
    data.mkdir(parents=True, exist_ok=True)
    domains: tuple[Domain, Domain] = ("source", "target")
    for domain in domains:
        volume = phantom(SHAPE, domain, seed)
        for kind, array in zip(("image", "labels"), volume, strict=True):
            path = data / f"{domain}_{kind}.tif"
            write_tiff(path, iter(array), array.shape, array.dtype, VoxelGrid(SPACING))
            paths[domain, kind] = path
    project = Project.create(folder, CLASSES)
    project.volumes.add(
        paths["source", "image"], "source", labels=paths["source", "labels"], name="source"
    )
    project.volumes.add(paths["target", "image"], "target", name="target")
    return project, paths["target", "labels"]


class Demo:
    """The trainings on one project, and their scores.

    Args:
        project: with a volume named ``target``.
        truth: label image of the target.
        seed: of all training.
        watch: iterates events to their end and returns the result.
    """

    def __init__(self, project: Project, truth: Path, seed: int, watch: Watch) -> None:
        self.project = project
        self.truth = truth
        self.seed = seed
        self.watch = watch
        self.rows: list[list[str]] = []

    def train(self, method: str, steps: int, *, start: str | None = None, **values: Any) -> str:
        """Train with the smallest profile; returns the name of the run."""
        settings = TrainSettings.for_profile(
            "test",
            **{"steps": steps, "seed": self.seed, "target_box": TRAINED, **LEARNING, **values},
        )
        network = networks[settings.network].settings_for(settings.profile, {})
        job = TrainJob(
            project=str(self.project.folder),
            method=method,
            settings=settings,
            network_settings=network.model_dump(),
            start_from=start,
        )
        return str(self.watch(execute(job))["run"])

    def score(self, name: str, run: str) -> float:
        """IoU on the tested half of the target; adds a row to the table."""
        job = ScoreJob(
            project=str(self.project.folder),
            against=str(self.truth),
            run=run,
            volume="target",
            box=TESTED,
        )
        scores = self.watch(execute(job))
        self.rows.append([name, f"{scores['iou']:.3f}", f"{scores['dice']:.3f}"])
        return float(scores["iou"])

    def supervised(self) -> float:
        """IoU of a training on all labels of the target's upper half: what adapting may reach.

        It takes as many steps as adaptation and all rounds together. A second project has the
        target as its source.
        """
        folder = self.project.folder
        image = folder / self.project.volumes.entry("target").image
        with Project.create(folder.with_name(folder.name + "-supervised"), CLASSES) as ceiling:
            ceiling.volumes.add(image, "source", labels=self.truth, name="labelled")
            ceiling.volumes.add(image, "target", name="target")
            demo = Demo(ceiling, self.truth, self.seed, self.watch)
            run = demo.train("source_only", STEPS + ROUNDS * ROUND_STEPS, source_box=TRAINED)
            iou = demo.score("supervised on the whole upper half", run)
        self.rows += demo.rows
        return iou

    def annotate(self, run: str) -> None:
        """Suggest patches and take them from the truth, as an annotator would."""
        query = QuerySettings(
            strategy="entropy", count=PATCHES, patch=PATCH, box=TRAINED, seed=self.seed
        )
        result = self.watch(
            execute(SuggestJob(project=str(self.project.folder), run=run, settings=query))
        )
        self.project.regions.suggest(result["regions"], "entropy", run)
        self.project.annotations.take(self.truth, "target")

    def export(self, run: str) -> tuple[str, str]:
        """Write the mask and the loss curves of all runs into the project's folder.

        Returns:
            The paths of the mask (TIFF) and the curves (CSV).
        """
        mask = self.project.folder / "mask.tif"
        curves = self.project.folder / "curves.csv"
        job = ExportJob(project=str(self.project.folder), what="mask", to=str(mask), run=run)
        self.watch(execute(job))
        with curves.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["run", "step", "loss", "value"])
            for name in self.project.runs.names():
                writer.writerows(_curve(self.project.run(name)))
        return str(mask), str(curves)


def _curve(run: RunFolder) -> Generator[tuple[str, int, str, float]]:
    for event in run.log():
        if event["event"] == "stepped":
            for name, value in event["losses"].items():
                yield run.name, event["step"], name, value


def run_demo(folder: Path, seed: int, watch: Watch) -> tuple[dict[str, Any], list[list[str]]]:
    """Adapt, then annotate and retrain in rounds; also without adaptation, and fully supervised.

    Args:
        folder: of the project to make.
        seed: of the phantom and of all training.
        watch: iterates events to their end and returns the result.

    Returns:
        The result with the IoU of each model, and the rows of the table.
    """
    project, truth = make_project(folder, seed)
    with project:
        demo = Demo(project, truth, seed, watch)
        result: dict[str, Any] = {"project": str(project.folder), "rounds": []}
        result["source_only"] = demo.score("source only", demo.train("source_only", STEPS))
        strong = demo.train("source_only", STEPS, augmentation="strong")
        result["source_only_strong"] = demo.score("source only, strong augmentation", strong)
        run = demo.train("histogram", STEPS)
        result["adapted"] = demo.score("adapted (histogram)", run)
        for number in range(1, ROUNDS + 1):
            demo.annotate(run)
            run = demo.train("finetune", ROUND_STEPS, start=run)
            iou = demo.score(f"after {number * PATCHES} annotated patches", run)
            result["rounds"].append(iou)
        result["mask"], result["curves"] = demo.export(run)
        result["supervised"] = demo.supervised()
    return result, demo.rows
