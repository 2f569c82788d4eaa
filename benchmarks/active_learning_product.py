"""The annotation loop with the jobs of dock and command line; see active_learning.py."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from benchmarks.adaptation import GUARD, PROTOCOLS, binned
from benchmarks.common import CLASSES
from napari_emda.active_learning.candidates import Candidates
from napari_emda.active_learning.patch_features import PatchFeatures, means_of
from napari_emda.active_learning.strategy import strategies
from napari_emda.active_learning.suggest import choose, pool_of
from napari_emda.data.probabilities import class_ids
from napari_emda.events import Finished
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import Job, ScoreJob, SuggestJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import TrainSettings, split_network

CEILING, COUNT, ROUNDS, PATCH = "full supervision", 5, 8, 64
P2 = PROTOCOLS["p2"]
METHOD, STEPS, ROUND_STEPS = "auto", P2.steps, 100
KNOWN = "known errors"
"""The patches with most wrong pixels: a bound for all strategies that seek errors."""


def carried_out(job: Job) -> dict[str, Any]:
    """Run a job and return its result."""
    *_, last = execute(job)
    assert isinstance(last, Finished)
    return last.result


class Story:
    """A project with source and target: the target's upper half trains, the lower is scored.

    Args:
        project: with both volumes.
        truth: label image of the target.
        rows: of the target.
        seed: of all training.
    """

    def __init__(self, project: Project, truth: Path, rows: int, seed: int) -> None:
        self.project, self.truth, self.seed = project, truth, seed
        self.upper, self.lower = (
            f":,0:{rows // 2},:",
            f":,{rows // 2 + GUARD // P2.binning}:{rows},:",
        )

    def train(self, method: str, steps: int, start: str | None = None, **values: Any) -> str:
        """Train a run; returns its name."""
        given = dict(setting.split("=") for setting in P2.settings)
        wanted = {**given, "steps": steps, "seed": self.seed, "target_box": self.upper, **values}
        of_training, of_network = split_network(wanted)
        job = TrainJob(
            project=str(self.project.folder),
            method=method,
            settings=TrainSettings.for_profile(P2.profile, **of_training),
            network_settings=of_network,
            start_from=start,
        )
        return str(carried_out(job)["run"])

    def score(self, run: str) -> float:
        """IoU of the foreground in the lower half."""
        job = ScoreJob(
            project=str(self.project.folder),
            against=str(self.truth),
            run=run,
            volume="target",
            box=self.lower,
        )
        return float(carried_out(job)["iou"])

    def annotate(self, run: str, strategy: str, number: int) -> tuple[int, int]:
        """Annotate a round; returns the pixels to correct, and to paint from nothing."""
        base = "entropy" if strategy == KNOWN else strategy
        query = QuerySettings(
            strategy=base, count=COUNT, patch=PATCH, box=self.upper, seed=self.seed + 1000 * number
        )
        found = carried_out(
            SuggestJob(project=str(self.project.folder), run=run, volume="target", settings=query)
        )
        regions = self.most_wrong(run, query) if strategy == KNOWN else found["regions"]
        self.project.regions.suggest(regions, strategy, run)
        annotated = self.project.annotations.take(self.truth, "target")
        painted = self.project.annotations.open("target")
        assert painted is not None
        from_nothing = sum(
            int((np.asarray(painted[region.voxels.slices]) > 1).sum()) for region in annotated
        )
        return sum(region.changed for region in annotated), from_nothing

    def most_wrong(self, run: str, query: QuerySettings) -> list[dict[str, Any]]:
        """Choose patches by the fraction of wrongly predicted pixels."""
        stored = self.project.predictions.of(run, "target").classes
        assert stored is not None
        wrong = class_ids(np.asarray(stored[:])) != (tifffile.imread(self.truth) > 0)
        shape = self.project.volumes.open("target").shape
        candidates = Candidates.of(
            shape, query.patch, box=query.box, limit=query.positions, seed=query.seed
        )
        seen = [region.voxels for region in self.project.regions.all() if region.decided]
        findings = PatchFeatures(means_of(255 * wrong.astype(np.uint8), candidates), None)
        pool = pool_of(
            candidates,
            findings,
            query.count,
            sections=query.section_distance,
            seed=query.seed,
            excluded=seen,
        )
        entropy = strategies["entropy"]
        picks = choose(entropy(entropy.Settings()), pool)
        return [
            {"volume": "target", "box": str(candidates.box(index)), "score": score}
            for index, score in picks
        ]


def story(
    data: Path, work: Path, pair: tuple[str, str], folder: Path, seed: int, *, ceiling: bool = False
) -> Story:
    """A new project; for full supervision, the source is the labelled target itself."""
    source, target = (pair[1], pair[1]) if ceiling else pair
    (image, labels, _), (other, truth, rows) = (
        binned(data, work, name, P2.binning) for name in (source, target)
    )
    shutil.rmtree(folder, ignore_errors=True)
    project = Project.create(folder, CLASSES)
    project.volumes.add(image, "source", labels=labels, name="source")
    project.volumes.add(other, "target", name="target")
    return Story(project, truth, rows, seed)


def product_cell(
    data: Path, work: Path, pair: tuple[str, str], name: str, seed: int, folder: Path
) -> dict[str, Any]:
    """One curve: IoU before the first and after every round, and the pixels to paint in each."""
    began = time.perf_counter()
    trial = story(data, work, pair, folder, seed, ceiling=name == CEILING)
    with trial.project:
        if name == CEILING:
            run = trial.train("source_only", STEPS + ROUNDS * ROUND_STEPS, source_box=trial.upper)
            return {
                "iou": [trial.score(run)],
                "patches": [],
                "seconds": time.perf_counter() - began,
            }
        run = trial.train(METHOD, STEPS)
        result: dict[str, Any] = {
            "iou": [trial.score(run)],
            "patches": [0],
            "corrected": [],
            "from_nothing": [],
        }
        for number in range(ROUNDS):
            corrected, from_nothing = trial.annotate(run, name, number)
            run = trial.train("finetune", ROUND_STEPS, run)
            result["iou"].append(trial.score(run))
            result["patches"].append(COUNT * (number + 1))
            result["corrected"].append(corrected)
            result["from_nothing"].append(from_nothing)
    return {**result, "seconds": time.perf_counter() - began}
