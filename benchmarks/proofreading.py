"""How many decisions it takes to mend the objects of a prediction, in different orders.

A simulated person looks at one object after the other and decides as the truth says. The order is
that of the queue of suspicious objects, random, or that of the volume. DATA holds nuclei_hoechst,
see docs/benchmark-objects.md; WORK takes the projects, and is reused.

    python -m benchmarks.proofreading DATA WORK
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks import parser_of
from napari_emda.data.probabilities import ClassProbability
from napari_emda.errors import DataError
from napari_emda.inference.device import configure_process
from napari_emda.jobs.execute import execute
from napari_emda.objects.edited import EditedObjects
from napari_emda.objects.splitting import split
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
# A match at the higher of the usual thresholds: outlines must fit, too.
MATCH = 0.75
ENOUGH = 0.95
SECONDS = 2
# A part of an object counts from this share of it on.
PART = 0.1
RANDOM_ORDERS = 10
Ids = NDArray[np.integer[Any]]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=250)
    arguments = parser.parse_args()
    configure_process()
    arguments.work.mkdir(parents=True, exist_ok=True)
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


# -- a person --------------------------------------------------------------------------------------


@dataclass
class Person:
    """Decides on objects as the truth says, and keeps the score.

    Attributes:
        objects: as they are.
        truth: ids of the true objects.
        cut: splits an object at two seeds.
        decisions: so far.
    """

    objects: EditedObjects
    truth: Ids
    cut: Callable[[int, Sequence[Sequence[int]]], Any]
    decisions: int = 0
    _overlaps: dict[int, dict[int, int]] = field(default_factory=dict)
    _matched: dict[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sizes = np.bincount(self.truth.ravel())
        self.true = int(np.count_nonzero(self.sizes[1:]))
        ids = np.asarray(self.objects[...]).ravel().astype(np.int64)
        keys = ids * (len(self.sizes) + 1) + self.truth.ravel()
        pairs, counts = np.unique(keys[ids > 0], return_counts=True)
        for key, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            number, true = divmod(key, len(self.sizes) + 1)
            self._overlaps.setdefault(number, {})[true] = count
        for number in self._overlaps:
            self._match(number)

    def _match(self, number: int) -> None:
        parts = self._overlaps[number]
        size = sum(parts.values())
        self._matched[number] = any(
            true and shared / (size + self.sizes[true] - shared) >= MATCH
            for true, shared in parts.items()
        )

    @property
    def precision(self) -> float:
        """AP at `MATCH`: true positives over all that was found or missed."""
        found = sum(self._matched.values())
        return found / (len(self._matched) + self.true - found)

    def _measure(self, number: int) -> None:
        if not self.objects.exists(number):
            self._overlaps.pop(number, None)
            self._matched.pop(number, None)
            return
        place = self.objects.box(number).slices
        inside = self.objects[place] == number
        found, counts = np.unique(self.truth[place][inside], return_counts=True)
        self._overlaps[number] = dict(zip(found.tolist(), counts.tolist(), strict=True))
        self._match(number)

    def look_at(self, number: int) -> None:
        """Decide on an object, and on the parts of it if it was split."""
        if not self.objects.exists(number):
            return
        self.decisions += 1
        if self._matched[number]:
            return
        parts = self._overlaps[number]
        size = sum(parts.values())
        true = {k: n for k, n in parts.items() if k and n > PART * size}
        inside = [k for k, n in true.items() if n > 0.5 * self.sizes[k]]
        if parts.get(0, 0) > 0.5 * size:
            self.objects.delete(number)
            self._measure(number)
        elif len(inside) > 1:
            self._split(number, sorted(inside, key=true.__getitem__)[-2:])
        elif true:
            self._merge(number, max(true, key=true.__getitem__))

    def _split(self, number: int, between: list[int]) -> None:
        place = self.objects.box(number)
        inside = self.objects[place.slices] == number
        seeds = []
        for true in between:
            depth = ndimage.distance_transform_edt(inside & (self.truth[place.slices] == true))
            seeds.append(np.add(np.unravel_index(depth.argmax(), depth.shape), place.start))
        try:
            other = self.objects.split(number, self.cut(number, [s.tolist() for s in seeds]))
        except DataError:
            return
        self._measure(number)
        self._measure(other)
        # Whoever has split one sees at once whether that was all.
        for part in (number, other):
            if (
                not self._matched[part]
                and sum(n > 0.5 * self.sizes[k] for k, n in self._overlaps[part].items() if k) > 1
            ):
                self.look_at(part)

    def _merge(self, number: int, true: int) -> None:
        """Merge with the largest other part of the same true object, if there is one."""
        others = {
            other: parts[true]
            for other, parts in self._overlaps.items()
            if other != number and parts.get(true, 0) > 0.5 * sum(parts.values())
        }
        voxels_by_truth = self._overlaps[number]
        if not others or voxels_by_truth[true] <= 0.5 * sum(voxels_by_truth.values()):
            return  # its outline would have to be painted
        other = max(others, key=others.__getitem__)
        self.objects.merge([number, other])
        self._measure(number)
        self._measure(other)
        # More parts of the same object are merged on the same look.
        if not self._matched[number]:
            self.decisions += 1
            self._merge(number, true)


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
    best = curve(proofreading, truth, ids)[-1]
    start = Person(proofreading.objects, truth, lambda *_: None).precision
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

    def cut(number: int, seeds: Sequence[Sequence[int]]) -> Any:
        return split(objects, number, seeds, proofreading.grid, stored)

    person = Person(objects, truth, cut)
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


if __name__ == "__main__":
    main()
