"""The protocol of Roels and Saeys 2019: a strategy picks from a pool of random patches."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from benchmarks.adaptation import FILES, GUARD, binned
from benchmarks.common import CLASSES, training
from napari_emda.active_learning.candidates import Candidates, Pool
from napari_emda.active_learning.measurement import candidate_features
from napari_emda.active_learning.strategies.entropy import Entropy
from napari_emda.active_learning.strategy import Strategy, strategies
from napari_emda.active_learning.suggest import choose, pool_of
from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.evaluation.voxel_scores import score_volume
from napari_emda.inference.device import Compute
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.methods.base import Method
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import TrainSettings
from napari_emda.training.loop import fit

CEILING, CONTROL = "full supervision", "shuffled"


@dataclass(frozen=True)
class Protocol:
    """Sizes of the pool protocol: patches at the start, in the pool, per round; steps; network."""

    bin: int = 4
    patch: int = 64
    start: int = 20
    pool: int = 400
    count: int = 20
    rounds: int = 6
    first_steps: int = 300
    steps: int = 100
    base_channels: int = 16
    depth: int = 3

    @property
    def guard(self) -> int:
        """Rows between the training half and the scored half."""
        return GUARD // self.bin


SHRUNK = Protocol()
FULL = Protocol(
    bin=1, patch=128, pool=2000, rounds=24, first_steps=3000, steps=600, base_channels=32, depth=4
)


class Shuffled(Entropy):
    """The entropies of other patches: a control in which the ranking carries no information."""

    def begin(self, pool: Pool) -> None:
        """Assign the scores to patches at random."""
        pool.uncertainty = np.random.default_rng(pool.seed).permutation(pool.uncertainty)


def strategy_of(name: str) -> Strategy:
    """A strategy with its default settings."""
    cls = Shuffled if name == CONTROL else strategies[name]
    return cls(cls.Settings())


def volume_of(data: Path, work: Path, name: str, factor: int) -> Volume:
    """Image and labels in memory, binned in the plane if wanted."""
    image, labels, (z, y, x) = FILES[name]
    if factor > 1:
        paths: tuple[Path, ...] = binned(data, work, name, factor)[:2]
    else:
        paths = data / image, data / labels
    arrays = [tifffile.imread(path) for path in paths]
    return Volume(
        name, arrays[0], "source", VoxelGrid((z, y * factor, x * factor)), labels=arrays[1]
    )


class Annotator:
    """Knows the labels of a volume, and paints what it is asked to.

    Args:
        truth: the volume with its labels.
    """

    def __init__(self, truth: Volume) -> None:
        self.truth = truth
        self.boxes: list[Box] = []
        self._painted = np.zeros(truth.shape, np.uint8)

    def paint(self, boxes: list[Box]) -> float:
        """Annotate patches; returns the fraction of foreground in them."""
        for box in boxes:
            self._painted[box.slices] = self.truth.read_labels(box) + 1
        self.boxes += boxes
        return float(np.mean([(self.truth.read_labels(box) > 0).mean() for box in boxes]))

    @property
    def volume(self) -> Volume:
        """The volume as training sees it."""
        return replace(
            self.truth, labels=None, annotations=self._painted, annotated=tuple(self.boxes)
        )


class Learner:
    """Trains a network on a volume, on and on; predicts and scores.

    Args:
        protocol: sizes.
        truth: the volume with its labels; only `score` looks at them.
        seed: of network and batches.
        folder: for checkpoints and predictions, emptied at every round.
    """

    def __init__(self, protocol: Protocol, truth: Volume, seed: int, folder: Path) -> None:
        self.protocol, self.truth, self.seed, self.folder = protocol, truth, seed, folder
        self.compute = Compute.choose()
        self.method: Method | None = None

    def learn(self, volume: Volume, steps: int, rate: float) -> Predictor:
        """Train on the labels of the upper half, from the network of the round before."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        p = self.protocol
        settings = TrainSettings(
            steps=steps,
            seed=self.seed,
            patch=p.patch,
            learning_rate=rate,
            augmentation="weak",
            save_every=steps,
            source_box=f":,0:{volume.shape[1] // 2},:",
        )
        network = {"base_channels": p.base_channels, "depth": p.depth}
        work = training("source_only", settings, [volume], self.folder, network)
        if self.method is not None:
            work.method.load_state_dict(self.method.state_dict())
        for _ in fit(work):
            pass
        self.method = work.method
        return Predictor(work.method.predictor, work.header, self.compute)

    def score(self, predictor: Predictor) -> float:
        """IoU of the foreground in the lower half."""
        for _ in predict(
            predictor, self.truth.without_labels(), PredictSettings(), RunFolder(self.folder)
        ):
            pass
        _, rows, _ = self.truth.shape
        lower = Box.parse(f":,{rows // 2 + self.protocol.guard}:,:", self.truth.shape)
        probabilities = StoredPrediction(RunFolder(self.folder), self.truth.name).probabilities
        return float(score_volume(probabilities, self.truth.class_ids, CLASSES, lower)["iou"])


def random_patches(
    protocol: Protocol, shape: tuple[int, int, int], count: int, seed: int
) -> Candidates:
    """Randomly placed patches in the upper half; they may overlap, as in the paper."""
    rng = np.random.default_rng(seed)
    high = np.array([shape[0], shape[1] // 2 - protocol.patch + 1, shape[2] - protocol.patch + 1])
    return Candidates(rng.integers(0, high, (count, 3)), protocol.patch, count)


def pool_cell(
    protocol: Protocol, truth: Volume, name: str, seed: int, folder: Path
) -> dict[str, Any]:
    """One curve: IoU after each round and the patches asked for.

    Start, pool and network depend on the seed alone.
    """
    torch.manual_seed(seed)
    learner, began = Learner(protocol, truth, seed, folder), time.perf_counter()
    if name == CEILING:
        steps = protocol.first_steps + protocol.rounds * protocol.steps
        iou = learner.score(learner.learn(truth, steps, 1e-3))
        return {
            "iou": [iou],
            "patches": [],
            "foreground": [],
            "seconds": time.perf_counter() - began,
        }
    annotator, strategy = Annotator(truth), strategy_of(name)
    candidates = random_patches(protocol, truth.shape, protocol.start + protocol.pool, seed)
    boxes = [candidates.box(i) for i in range(len(candidates))]
    annotator.paint(boxes[: protocol.start])
    pool_left = np.arange(protocol.start, len(candidates))
    predictor = learner.learn(annotator.volume, protocol.first_steps, 1e-3)
    result: dict[str, Any] = {
        "iou": [learner.score(predictor)],
        "patches": [protocol.start],
        "foreground": [],
    }
    for number in range(protocol.rounds):
        left = replace(candidates, starts=candidates.starts[pool_left])
        picks = ask(
            learner,
            predictor,
            strategy,
            left,
            annotator.boxes,
            protocol.count,
            seed + 1000 * number,
        )
        result["foreground"].append(annotator.paint([left.box(i) for i in picks]))
        pool_left = np.delete(pool_left, picks)
        predictor = learner.learn(annotator.volume, protocol.steps, 5e-4)
        result["iou"].append(learner.score(predictor))
        result["patches"].append(len(annotator.boxes))
    return {**result, "seconds": time.perf_counter() - began}


def ask(
    learner: Learner,
    predictor: Predictor,
    strategy: Strategy,
    left: Candidates,
    annotated: list[Box],
    count: int,
    seed: int,
) -> list[int]:
    """The patches that a strategy picks from the remaining candidates."""
    settings = QuerySettings(count=count, patch=left.patch, seed=seed)
    volume = learner.truth.without_labels()
    looking = candidate_features(
        predictor, volume, strategy, settings, RunFolder(learner.folder), left, annotated
    )
    while True:
        try:
            next(looking)
        except StopIteration as end:
            found = end.value
            break
    pool = pool_of(left, found, count, sections=-1, seed=seed)
    return [index for index, _ in choose(strategy, pool)]
