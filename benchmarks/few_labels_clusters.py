"""How useful clusters are, and five annotated patches with and without them; see few_labels.py."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.adaptation import emda
from benchmarks.few_labels_data import CLASSES, Split, text
from napari_emda.data.box import Box
from napari_emda.data.probabilities import class_ids
from napari_emda.project.project import Project

PATCHES, PATCH = 5, 64
ROUND_STEPS = 300
STRATEGY = "coverage"
"""Ranks the first patches. It is no better than random, so *Use as labels* draws at random."""
Counts = NDArray[np.int64]
"""Pixels outside and inside of the structure, by cluster: k x 2."""


def cell(
    split: Split, folder: Path, clusters: int, seed: int, flags: list[str], steps: int
) -> dict[str, Any]:
    """Clusters of one volume: agreement of their best set, then five patches chosen three ways.

    The set is chosen by the labels of the training part, as if by somebody who knows the structure;
    everything is scored elsewhere.
    """
    emda("new", folder / "named", "--target", split.image, "--classes", *CLASSES, *split.flags)
    common = [*flags, "--seed", str(seed), "--set", f"target_box={text(split.learnt)}"]
    steps_flags = ["--steps", str(steps), "--set", f"clusters={clusters}"]
    trained = emda("train", folder / "named", "--method", "iic", *steps_flags, *common)
    run = str(trained["run"])
    emda("predict", folder / "named", "--run", run)
    learnt, scored = (
        counts(folder / "named", run, clusters, split, box) for box in (split.learnt, split.scored)
    )
    chosen = best_set(learnt)
    numbers = ",".join(str(1 + cluster) for cluster in chosen)
    shutil.copytree(folder / "named", folder / "random")
    emda("name-clusters", folder / "named", "--run", run, "--class", f"{CLASSES[1]}={numbers}")
    losses: Any = trained["losses"]
    return {
        "seconds": trained["seconds"],
        "information": losses["information"] / math.log(clusters),
        "clusters": [1 + int(cluster) for cluster in chosen],
        "iou": agreement(scored, chosen),
        "one": agreement(scored, chosen[:1]),
        "covered": float(scored[chosen, 1].sum() / scored[:, 1].sum()),
        "patches": {
            "named": score(split, folder / "named", run),
            **after_patches(split, folder / "named", run, common, steps),
            "random": random_patches(split, folder / "random", run, common, steps, seed),
        },
    }


def counts(folder: Path, run: str, clusters: int, split: Split, box: Box) -> Counts:
    """Pixels of a box by cluster, and by whether they are the structure."""
    with Project.open(folder) as project:
        stored = project.predictions.of(run, project.volumes.target().name).clusters
        assert stored is not None
        ids = class_ids(np.asarray(stored[(slice(None), *box.slices)])) - 1
    truth = split.read(split.truth, box) > 0
    found = [np.bincount(ids[truth == side].ravel(), minlength=clusters) for side in (False, True)]
    return np.stack(found, axis=1)


def best_set(table: Counts) -> NDArray[np.int64]:
    """The clusters that together have the largest IoU with the structure, the purest first.

    A set of the largest IoU holds all clusters that are purer than some bound.
    """
    order = np.argsort(-table[:, 1] / table.sum(1).clip(1), kind="stable")
    ious = [agreement(table, order[: n + 1]) for n in range(len(order))]
    return np.asarray(order[: 1 + int(np.argmax(ious))])


def agreement(table: Counts, chosen: NDArray[np.int64]) -> float:
    """IoU of a set of clusters with the structure."""
    outside, inside = table[chosen].sum(0)
    return float(inside / (table[:, 1].sum() + outside))


def score(split: Split, folder: Path, run: str) -> float:
    """IoU of the prediction of a run, on the scored part."""
    result: Any = emda(
        "score", folder, "--run", run, "--against", split.truth, "--box", text(split.scored)
    )
    return float(result["iou"])


def after_patches(
    split: Split, folder: Path, run: str, common: list[str], steps: int
) -> dict[str, float]:
    """Train on five patches that begin with the named clusters, with and without features."""
    regions = annotated(split, folder, run, "--strategy", STRATEGY)
    size = len(regions) * PATCH**2
    boxes = [
        split.read(split.truth, Box.parse(region["box"], split.scored.stop)) for region in regions
    ]
    return {
        "corrected": sum(int(region["changed"]) for region in regions) / size,
        "from nothing": sum(int((part > 0).sum()) for part in boxes) / size,
        "from clusters": finetuned(split, folder, common, steps, run),
        "alone": finetuned(split, folder, common, steps),
    }


def random_patches(
    split: Split, folder: Path, run: str, common: list[str], steps: int, seed: int
) -> float:
    """Train on five random patches from scratch."""
    annotated(split, folder, run, "--strategy", "random", "--set", f"seed={seed}")
    return finetuned(split, folder, common, steps)


def annotated(split: Split, folder: Path, run: str, *flags: str) -> list[dict[str, Any]]:
    """Suggest patches and annotate them with the true labels."""
    box = ("--set", f"box={text(split.learnt)}")
    emda(
        "suggest",
        folder,
        "--run",
        run,
        "--count",
        str(PATCHES),
        "--patch",
        str(PATCH),
        *box,
        *flags,
    )
    result: Any = emda("annotate", folder, "--from", split.truth)
    return list(result["annotated"])


def finetuned(
    split: Split, folder: Path, common: list[str], steps: int, start: str = "none"
) -> float:
    """IoU after training on the annotated patches."""
    count = str(min(ROUND_STEPS, steps))
    run = str(
        emda("train", folder, "--method", "finetune", "--steps", count, *common, "--from", start)[
            "run"
        ]
    )
    return score(split, folder, run)
