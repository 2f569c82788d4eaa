"""How well the label-free scores choose among the models of a training (protocol P5).

For runs that have kept all their validated models (``--set checkpoints_kept=1000``):

* Spearman correlation of each score with the IoU, over the models of a run;
* regret: the IoU lost against the best model (unknown without labels) by choosing the last one, the
  one that the run kept, the one with the best score, or that of another criterion.

    python -m benchmarks.selection LABELS BOX PROJECT...  # BOX such as :,144:256,:

Only this benchmark reads the labels. The table goes to standard output as Markdown; `evaluate`,
`summary` and `table` can be used on the runs of other benchmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks import parser_of
from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.evaluation.voxel_scores import ScoreBoard
from napari_emda.inference import checkpoint
from napari_emda.inference.device import Compute
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predictor import Predictor, predict_box
from napari_emda.io.read import open_labels
from napari_emda.methods.base import Method
from napari_emda.project.project import Project
from napari_emda.training.state import TrainingState

CRITERIA = ("score", "solidity_gap", "flip_disagreement", "uncertainty")
Row = dict[str, Any]


def evaluate(
    project: Project, run: str, labels: NDArray[Any], box: Box, device: str = "cpu", every: int = 1
) -> list[Row]:
    """The models of a run, each with its IoU.

    Args:
        project: where the run is.
        run: its name; it has kept all its validated models.
        labels: (z, y, x) of the target, 0 = background.
        box: where to score.
        device: where to predict.
        every: evaluate only every n-th of the steps, and the selected ones.

    Returns:
        A row per model: ``run``, ``method``, ``kind``, ``step`` and ``iou``. The kinds are ``step``
        (with the label-free scores), ``last`` and ``selected``.
    """
    folder = project.run(run)
    target = replace(
        project.volumes.open(project.volumes.target().name),
        labels=labels,
        labels_zero="background",
        annotations=None,
    )
    compute = Compute.choose(device, "32")
    rows = []
    for step in folder.candidates()[::-every][::-1]:
        path = folder.candidate(step)
        header, method = checkpoint.load_method(path)
        rows.append(
            {
                "kind": "step",
                "step": step,
                "iou": _iou(method, header, target, box, compute),
                **TrainingState.read(path).scores,
            }
        )
    for kind in ("last", "selected"):
        header, method = checkpoint.load_method(checkpoint.find(folder, kind))
        rows.append(
            {"kind": kind, "step": header.step, "iou": _iou(method, header, target, box, compute)}
        )
    return [{"run": run, "method": header.method, **row} for row in rows]


def _iou(method: Method, header: ModelHeader, target: Volume, box: Box, compute: Compute) -> float:
    predictor = Predictor(method.predictor, header, compute)
    board = ScoreBoard(len(header.classes))
    (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
    for z in range(z0, z1):
        part = Box((z, y0, x0), (z + 1, y1, x1))
        board.add(predict_box(predictor, target, part)[:, None], target.read_labels(part), z)
    return float(np.mean([board.counts(k).iou for k in range(1, len(header.classes))]))


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """IoU of the last, best and chosen models of a run, regrets, rank correlations."""
    models = [row for row in rows if row["kind"] == "step" and row["objects"] > 0]
    choices = {row["kind"]: row["iou"] for row in rows if row["kind"] != "step"}
    iou = [row["iou"] for row in models]
    oracle = max([*iou, choices["last"]])
    chosen = {key: min(models, key=lambda row: (row[key], -row["step"]))["iou"] for key in CRITERIA}
    choices |= chosen
    return {
        "models": len(models),
        "best": oracle,
        **{f"iou {key}": value for key, value in choices.items()},
        **{f"regret {key}": oracle - value for key, value in choices.items()},
        **{
            f"spearman {key}": -float(spearmanr([row[key] for row in models], iou).statistic)
            for key in CRITERIA
        },
    }


def table(summaries: dict[str, dict[str, float]]) -> str:
    """Markdown: a row per run, and their mean."""
    ways = ("last", "selected", "score", "solidity_gap")
    columns = [
        "run",
        "best",
        *(f"regret: {way}" for way in ways),
        *(f"rank: {key}" for key in CRITERIA[:2]),
    ]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    keys = [
        "best",
        *(f"regret {way}" for way in ways),
        *(f"spearman {key}" for key in CRITERIA[:2]),
    ]
    mean = {key: float(np.mean([one[key] for one in summaries.values()])) for key in keys}
    for name, one in {**summaries, "**mean**": mean}.items():
        lines.append(f"| {name} | " + " | ".join(f"{one[key]:.3f}" for key in keys) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("labels", type=Path)
    parser.add_argument("box")
    parser.add_argument("projects", type=Path, nargs="+")
    arguments = parser.parse_args()
    labels = np.asarray(open_labels(arguments.labels).array)
    summaries = {}
    for folder in arguments.projects:
        with Project.open(folder) as project:
            for run in project.runs.names():
                if project.run(run).candidates():
                    rows = evaluate(project, run, labels, Box.parse(arguments.box, labels.shape))
                    summaries[f"{folder.name} {run}"] = summary(rows)
    print(table(summaries))


if __name__ == "__main__":
    main()
