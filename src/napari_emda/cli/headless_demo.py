"""The whole workflow on the phantom, without a screen.

Adapt, suggest, annotate, retrain, predict and export.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_emda.cli.demo_picture import draw_picture
from napari_emda.data.box import Box
from napari_emda.data.volume import Domain
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import Event, Notice
from napari_emda.io.read import open_labels
from napari_emda.io.tiff import write_tiff
from napari_emda.jobs.execute import execute
from napari_emda.jobs.time_left import duration
from napari_emda.nn.network import networks
from napari_emda.project.job_files import ExportJob, ScoreJob, SuggestJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import TrainSettings
from napari_emda.synthetic.sample_pair import RECORDINGS, sample_volume

# Adaptation and annotation see the upper half of the target, and scores are made on the lower one.
# The 16 rows between keep the pixels that are scored away from those that were seen.
TRAINED = ":,0:152,:"
TESTED = ":,168:320,:"
# Few enough for the whole demo to take minutes.
STEPS = 400
ROUND_STEPS = 200
ROUNDS = 2
PATCHES = 5
PATCH = 64
CLASSES = ("background", "mitochondria")
# Larger than the default: within a thousand steps larger rates gave better models, see `PROFILES`
# in settings/training.py. Every row but one also uses the profile's weak augmentation, so that the
# rows differ by the adaptation alone.
LEARNING: dict[str, Any] = {"learning_rate": 2e-3}

# What the demo does, and about how many seconds each takes on two cores, of which one trains:
# measured with three seeds on a busy machine, and scaled to the processor time of the whole. Only
# their proportions matter once the first is done.
STAGES = {
    "train on the source alone": 37,
    "the same with strong augmentation": 32,
    "adapt to the target with auto": 84,
    "annotate patches and retrain": 51,
    "annotate more patches and retrain": 44,
    "export the mask": 3,
    "train on all labels of the target, for comparison": 79,
}

Watch = Callable[[Generator[Event]], dict[str, Any]]


class Stages:
    """Names each of the `STAGES`, with the time left for all of them.

    Args:
        clock: seconds from any zero; tests give their own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._number = 0

    def next(self) -> Generator[Event]:
        """Say which stage begins."""
        seconds = list(STAGES.values())
        done = sum(seconds[: self._number])
        # Until a stage is done, this machine is taken to be as fast as the one of `STAGES`.
        pace = (self._clock() - self._began) / done if done else 1.0
        left = duration(pace * sum(seconds[self._number :]))
        name = list(STAGES)[self._number]
        self._number += 1
        yield Notice(f"{self._number} of {len(STAGES)}: {name} (about {left} left in all)")


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
        grid = VoxelGrid(RECORDINGS[domain].spacing)
        for kind, array in zip(("image", "labels"), sample_volume(domain, seed), strict=True):
            path = data / f"{domain}_{kind}.tif"
            write_tiff(path, iter(array), array.shape, array.dtype, grid)
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

    Attributes:
        results: the folder of mask, curves and picture, ``PROJECT-results``. Nothing is exported
            into a project.
    """

    def __init__(self, project: Project, truth: Path, seed: int, watch: Watch) -> None:
        self.project = project
        self.results = project.folder.with_name(project.folder.name + "-results")
        self.results.mkdir(exist_ok=True)
        self.truth = truth
        self.seed = seed
        self.watch = watch
        self.rows: list[list[str]] = []
        self.runs: dict[str, str] = {}  # by what the table calls them

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
        self.runs[name] = run
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
        """Write the mask and the loss curves of all runs into the folder of the results.

        Returns:
            The paths of the mask (TIFF) and the curves (CSV).
        """
        mask = self.results / "mask.tif"
        curves = self.results / "curves.csv"
        job = ExportJob(project=str(self.project.folder), what="mask", to=str(mask), run=run)
        self.watch(execute(job))
        with curves.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["run", "step", "loss", "value"])
            for name in self.project.runs.names():
                writer.writerows(_curve(self.project.run(name)))
        return str(mask), str(curves)

    def picture(self, names: Sequence[str]) -> str:
        """Draw the section that holds most, with the masks of some models.

        Args:
            names: of the models, as in the table.

        Returns:
            The path of the picture (PNG).
        """
        volume = self.project.volumes.open("target")
        tested = Box.parse(TESTED, volume.shape)
        labels = np.asarray(open_labels(self.truth).array[tested.slices]) > 0
        # Most is to be seen where the truth, not a model, finds most.
        fullest = int(labels.sum((1, 2)).argmax())
        z = tested.start[0] + fullest
        section = Box((z, *tested.start[1:]), (z + 1, *tested.stop[1:]))
        ious = {row[0]: row[1] for row in self.rows}
        masks = {}
        for name in names:
            prediction = self.project.predictions.of(self.runs[name], "target")
            classes = prediction.class_ids(section) if prediction else None
            if classes is not None:
                masks[f"{name}: IoU {ious[name]}"] = classes[0] > 0
        image = np.asarray(volume.image[section.slices])[0]
        path = self.results / "before-and-after.png"
        draw_picture(path, image, labels[fullest], masks)
        return str(path)


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
        stages = Stages()
        result: dict[str, Any] = {"project": str(project.folder), "rounds": []}
        watch(stages.next())
        run = demo.train("source_only", STEPS)
        result["source_only"] = demo.score("source only", run)
        watch(stages.next())
        run = demo.train("source_only", STEPS, augmentation="strong")
        result["source_only_strong"] = demo.score("source only, strong augmentation", run)
        watch(stages.next())
        run = demo.train("auto", STEPS)
        result["adapted"] = demo.score("adapted (auto)", run)
        shown = list(demo.runs)
        for number in range(1, ROUNDS + 1):
            watch(stages.next())
            demo.annotate(run)
            run = demo.train("finetune", ROUND_STEPS, start=run)
            name = f"after {number * PATCHES} annotated patches"
            result["rounds"].append(demo.score(name, run))
        watch(stages.next())
        result["mask"], result["curves"] = demo.export(run)
        result["picture"] = demo.picture([*shown, name])
        watch(stages.next())
        result["supervised"] = demo.supervised()
    return result, demo.rows
