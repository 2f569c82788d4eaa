"""How many decisions it takes to mend the objects of a prediction, in different orders.

A simulated person looks at one object after the other and decides as the truth says. The order is
that of the queue of suspicious objects, random, or that of the volume. DATA holds nuclei_hoechst,
see docs/benchmark-objects.md; WORK takes the projects, and is reused.

    python -m benchmarks.proofreading DATA WORK
    python -m benchmarks.proofreading DATA WORK --retrain    # what the model learns from decisions

To retrain, 30 decisions in the order of the queue are made in one half of the target: the first
fields of nuclei, the upper rows of the phantom. A short `finetune` learns from them, and the other
half is scored; without decisions, `auto` goes on for as many steps.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks import parser_of
from benchmarks.simulated_person import Ids, InMemory, InProject, Person, Voxel
from napari_emda.data.box import Box
from napari_emda.data.probabilities import ClassProbability
from napari_emda.evaluation.object_scores import compare_objects
from napari_emda.inference.device import configure_process
from napari_emda.jobs.execute import execute
from napari_emda.objects.edited import EditedObjects
from napari_emda.objects.edits import Part
from napari_emda.objects.splitting import split
from napari_emda.project.found_objects import FoundObjects
from napari_emda.project.job_files import ObjectsJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.project.proofreading import Proofreading
from napari_emda.settings.objects import SeparationSettings
from napari_emda.settings.training import TrainSettings
from napari_emda.synthetic.phantom import SPACING, phantom_objects

CLASSES = ("background", "object")
# Fields of nuclei that are learnt from; the others are proofread.
LEARNT = 18
SHAPE = (24, 320, 320)
TOUCHING = 0.6
BRANCHING = 0.3
ENOUGH = 0.95
SECONDS = 2
RANDOM_ORDERS = 10
# From which a model learns.
DECISIONS = 30


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--retrain", action="store_true")
    parser.add_argument("--retrain-steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3, help="of the retrainings")
    arguments = parser.parse_args()
    configure_process()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.retrain:
        retrain_all(arguments)
        return
    print("| data | objects | AP .75 | at best | order | decisions | minutes |")
    print("|---|---|---|---|---|---|---|")
    for name, make, separate in (
        ("nuclei", lambda: nuclei(arguments.data, arguments.work), (0.0, 0.8)),
        ("phantom", lambda: phantoms(arguments.work), (0.0, 0.6)),
    ):
        folder, truth = make()
        train(folder, arguments.steps)
        for neck in separate:
            compare(name, folder, truth, neck)


# -- predictions -----------------------------------------------------------------------------------


def nuclei(data: Path, work: Path) -> tuple[Path, Ids]:
    """Independent fields of stained nuclei."""
    images = tifffile.imread(data / "nuclei_hoechst" / "image.tif")
    instances = tifffile.imread(data / "nuclei_hoechst" / "instances.tif")
    pairs = {"source": images[:LEARNT], "target": images[LEARNT:]}
    truth = numbered(instances[LEARNT:])
    folder = work / "nuclei"
    make_project(folder, pairs, instances[:LEARNT] > 0, (1.0, 1.0, 1.0), independent=True)
    return folder, truth


def phantoms(work: Path) -> tuple[Path, Ids]:
    """Mitochondria that touch and branch more than in tissue."""
    how = {"touching": TOUCHING, "branching": BRANCHING}
    source, labels = phantom_objects(SHAPE, "source", 0, SPACING, **how)  # type: ignore[arg-type]
    target, truth = phantom_objects(SHAPE, "target", 1, SPACING, **how)  # type: ignore[arg-type]
    folder = work / "phantom"
    make_project(
        folder, {"source": source, "target": target}, labels > 0, SPACING, independent=False
    )
    return folder, truth


def make_project(
    folder: Path,
    images: dict[str, NDArray[Any]],
    mask: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    *,
    independent: bool,
) -> None:
    if folder.exists():
        return
    with Project.create(folder, CLASSES) as project:
        labels = project.volumes.store("source-labels", mask.astype(np.uint8))
        for domain, image in images.items():
            project.volumes.add(
                project.volumes.store(domain, image),
                domain,  # type: ignore[arg-type]
                labels=labels if domain == "source" else None,
                name=domain,
                spacing=spacing,
                sections_are_independent=independent,
            )


def train(folder: Path, steps: int) -> None:
    if Project.open(folder).runs.names():
        return
    settings = TrainSettings.for_profile("test", steps=steps)
    job = TrainJob(project=str(folder), method="auto", settings=settings)
    for _ in execute(job):
        pass


def numbered(instances: Ids) -> Ids:
    """Ids that no two sections share."""
    ids = np.zeros(instances.shape, np.int64)
    count = 0
    for z, section in enumerate(instances):
        found, index = np.unique(section, return_inverse=True)
        numbers = np.arange(len(found)) + count
        numbers[found == 0] = 0
        ids[z] = numbers[index].reshape(section.shape)
        count += len(found)
    return ids


# -- orders ----------------------------------------------------------------------------------------


def compare(name: str, folder: Path, truth: Ids, neck: float) -> None:
    """Print what each order takes."""
    settings = SeparationSettings(separate=neck, minimum_size=20)
    for _ in execute(ObjectsJob(project=str(folder), settings=settings)):
        pass
    project = Project.open(folder)
    proofreading = Proofreading.of(project)
    queue = proofreading.queue()
    by_score = np.argsort(-queue["score"].astype(float), kind="stable")
    suspicious = queue["id"].astype(int)[by_score].tolist()
    ids = proofreading.objects.ids.tolist()
    start, *_, best = curve(proofreading, truth, ids)
    rng = np.random.default_rng(0)
    largest = sorted(ids, key=proofreading.objects.voxels, reverse=True)
    orders: dict[str, list[list[int]]] = {
        "queue": [suspicious],
        "random (mean of 10)": [rng.permutation(ids).tolist() for _ in range(RANDOM_ORDERS)],
        "through the volume": [ids],
        "largest first": [largest],
    }
    for order, sequences in orders.items():
        taken = [
            reaches(curve(proofreading, truth, sequence), ENOUGH * best) for sequence in sequences
        ]
        mean = float(np.mean(taken))
        print(
            f"| {name}, separate {neck:g} | {len(ids)} of {len(np.unique(truth)) - 1} "
            f"| {start:.3f} | {best:.3f} | {order} | {mean:.0f} | {mean * SECONDS / 60:.1f} |",
            flush=True,
        )


def curve(proofreading: Proofreading, truth: Ids, order: Sequence[int]) -> list[float]:
    """AP after each decision, the first value before any."""
    probability = ClassProbability(proofreading.prediction.reported, proofreading.class_id)
    # In memory: it is cut many times.
    stored = np.asarray(probability[...])
    objects = EditedObjects(np.asarray(proofreading.objects.found[...]), proofreading.table.extents)

    def cut(number: int, seeds: Sequence[Voxel]) -> Part:
        return split(objects, number, seeds, proofreading.grid, stored)

    person = Person(InMemory(objects, cut), truth)
    values = [person.precision]
    for number in order:
        person.look_at(number)
        # A look that took several decisions reaches its score with the last of them.
        values += [values[-1]] * (person.decisions - len(values))
        if person.decisions == len(values):
            values.append(person.precision)
    return values


def reaches(values: Sequence[float], wanted: float) -> int:
    """The number of decisions after which a score is reached for good."""
    below = np.flatnonzero(np.asarray(values) < wanted)
    return int(below[-1]) + 1 if len(below) else 0


# -- retraining ------------------------------------------------------------------------------------


def retrain_all(arguments: argparse.Namespace) -> None:
    """Print how good models are after decisions, and without any."""
    print("| data | trained with | steps | seed | IoU | AP .5 | AP .75 |")
    print("|---|---|---|---|---|---|---|")
    work = arguments.work
    for name, make, neck, axis in (
        ("nuclei", lambda: nuclei(arguments.data, work), 0.8, 0),
        ("phantom", lambda: phantoms(work), 0.6, 1),
    ):
        folder, truth = make()
        train(folder, arguments.steps)
        middle = truth.shape[axis] // 2
        start = [0, 0, 0]
        start[axis] = middle
        held_out = Box((start[0], start[1], start[2]), truth.shape)
        settings = SeparationSettings(separate=neck, minimum_size=20)
        scores = scores_of(folder, None, truth, settings, held_out)
        print(f"| {name} | auto | {arguments.steps} | 0 | {scores} |", flush=True)
        taught = work / f"{name}-taught"
        shutil.rmtree(taught, ignore_errors=True)
        shutil.copytree(folder, taught)
        print(f"{name}: {decide(taught, truth, axis, middle)}", file=sys.stderr, flush=True)
        for seed in range(arguments.seeds):
            for method, place in (("finetune", taught), ("auto", folder)):
                steps = arguments.retrain_steps
                run = retrain(place, method, steps, seed)
                scores = scores_of(place, run, truth, settings, held_out)
                how = "finetune on 30 decisions" if method == "finetune" else "auto, going on"
                print(f"| {name} | {how} | {steps} | {seed} | {scores} |", flush=True)


def decide(folder: Path, truth: Ids, axis: int, middle: int) -> str:
    """Decide on the most suspicious objects of one half; returns what was decided, in words."""
    with Project.open(folder, exclusive=True) as project:
        proofreading = Proofreading.of(project)
        hands = InProject(proofreading)
        person = Person(hands, truth)
        queue = proofreading.queue()
        for row in np.argsort(-queue["score"].astype(float), kind="stable"):
            number = int(queue["id"][row])
            if person.decisions >= DECISIONS:
                break
            exists = proofreading.objects.exists(number)
            if exists and proofreading.objects.box(number).stop[axis] <= middle:
                person.look_at(number)
        annotated = np.asarray(project.annotations.require("target")[...])
    voxels = (
        f"{np.count_nonzero(annotated > 1)} voxels of objects, {(annotated == 1).sum()} of none"
    )
    return f"{person.decisions} decisions, {dict(hands.kinds)}, {voxels}"


def retrain(folder: Path, method: str, steps: int, seed: int) -> str:
    """Go on from the first run; returns the name of the new one."""
    project = Project.open(folder)
    before = project.runs.names()
    settings = TrainSettings.for_profile("test", steps=steps, seed=seed)
    job = TrainJob(project=str(folder), method=method, settings=settings, start_from=before[0])
    for _ in execute(job):
        pass
    (new,) = set(Project.open(folder).runs.names()) - set(before)
    return new


def scores_of(
    folder: Path, run: str | None, truth: Ids, settings: SeparationSettings, box: Box
) -> str:
    """IoU of the mask, AP at .5 and at .75 of a run's objects before any edit, as cells."""
    project = Project.open(folder)
    run = run or project.runs.names()[0]
    for _ in execute(ObjectsJob(project=str(folder), run=run, settings=settings)):
        pass
    prediction = Project.open(folder).predictions.of(run, "target")
    assert prediction is not None
    mask = np.asarray(prediction.reported[(0, *box.slices)]) > 127
    inside = truth[box.slices] > 0
    iou = (mask & inside).sum() / (mask | inside).sum()
    found = FoundObjects.of(project.run(run), "target").ids(1)
    scores = compare_objects(found, truth, box)
    return f"{iou:.3f} | {scores['ap_50']:.3f} | {scores['ap_75']:.3f}"


if __name__ == "__main__":
    main()
