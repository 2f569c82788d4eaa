"""Few labels, or none: what the unlabelled rest of a volume adds at equal optimiser steps.

    python -m benchmarks.few_labels labels DATA WORK --jobs 4      # 5 to 50 % labelled
    python -m benchmarks.few_labels clusters DATA WORK --jobs 4    # no labels, then five patches

DATA contains vnc/, lucchi/ and nuclei_hoechst/, see docs/benchmark-few-labels.md. Networks, patches
and steps are those of protocol P2 of `adaptation.py`, with one thread per run. In VNC and Lucchi
whole sections are labelled in the upper half of the rows; the lower half is scored, and 64 voxels
in between are left out. Of the nuclei every second field is used for training and the others are
scored. Unlabelled parts of the training half are used without labels; scored parts are not used.

Cells (volume, fraction or clusters, row, seed) with a result in WORK are not run again. Tables of
all results go to standard output as Markdown, and with ``--write`` also to
docs/benchmark-few-labels.md; missing results are marked.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import adaptation_report, parser_of
from benchmarks import few_labels_clusters as clusters
from benchmarks import few_labels_report as report
from benchmarks.adaptation import PROTOCOLS, emda
from benchmarks.few_labels_data import CLASSES, DATA, Split, split, text
from napari_emda.inference import checkpoint
from napari_emda.project.project import Project
from napari_emda.settings.training import LOSSES
from napari_emda.training import model_selection
from napari_emda.training.state import TrainingState

P2 = PROTOCOLS["p2"]
PAGE = Path(__file__).parents[1] / "docs" / "benchmark-few-labels.md"


@dataclass(frozen=True)
class Row:
    """A method and its settings; ``ceiling`` rows have all labels."""

    name: str
    method: str
    settings: tuple[str, ...] = ()
    ceiling: bool = False


ROWS = (
    Row(report.BASELINE, "source_only"),
    Row("uda without agreement", "uda", ("weight=0",)),
    Row("uda, kl", "uda", ("consistency=kl",)),
    Row("uda, iid", "uda", ("consistency=iid",)),
    Row("mean_teacher", "mean_teacher"),
    Row(report.CEILING, "source_only", ceiling=True),
)


@dataclass(frozen=True)
class Cell:
    """One measurement: a volume, a percentage of labels or a number of clusters, a row, a seed."""

    data: str
    amount: int
    row: str
    seed: int

    def path(self, results: Path) -> Path:
        """The file of its result."""
        name = "-".join([self.data, str(self.amount), self.row, str(self.seed)])
        return results / (re.sub(r"[^a-z0-9-]+", "_", name) + ".json")


def label_cells(seeds: int) -> list[Cell]:
    """All cells with labels, seeds first, so that an incomplete run is useful."""
    return [
        Cell(name, share, row.name, seed)
        for seed in range(seeds)
        for name, data in DATA.items()
        for row in ROWS
        for share in ((100,) if row.ceiling else data.shares)
    ]


def cluster_cells(seeds: int) -> list[Cell]:
    """All cells with clusters, seeds first."""
    return [
        Cell(name, k, "iic", seed)
        for seed in range(seeds)
        for name, data in DATA.items()
        for k in data.clusters
    ]


def settings(*more: str) -> list[str]:
    """The settings as options of ``train``."""
    wanted = [part for setting in (*P2.settings, *more) for part in ("--set", setting)]
    return ["--profile", P2.profile, *wanted]


def label_cell(whole: Split, folder: Path, cell: Cell, steps: int) -> dict[str, Any]:
    """Train a row with few labels; IoU of the models that it can use, on the scored part."""
    row = next(row for row in ROWS if row.name == cell.row)
    image, labels, sections = whole.labelled(folder, cell.amount, cell.seed)
    project = folder / "project"
    emda(
        "new",
        project,
        "--source",
        image,
        labels,
        "--target",
        whole.image,
        "--classes",
        *CLASSES,
        *whole.flags,
    )
    wanted = (*whole.data.settings, *row.settings, f"target_box={text(whole.learnt)}")
    flags = [*settings(*wanted), "--seed", str(cell.seed)]
    trained = emda("train", project, "--method", row.method, "--steps", str(steps), *flags)
    models = {
        "selected": "selected",
        "last": "last",
        **_by_losses(project, str(trained["run"]), steps),
    }
    against = ["--against", str(whole.truth), "--box", text(whole.scored)]
    by_model = {
        model: emda("score", project, *against, "--checkpoint", model)
        for model in set(models.values())
    }
    scores = {name: by_model[model] for name, model in models.items()}
    return {
        "iou": {name: score["iou"] for name, score in scores.items()},
        "both": {name: both(score) for name, score in scores.items()},
        "foreground": scores["last"]["foreground_fraction"],
        "sections": sections,
        "seconds": trained["seconds"],
    }


def both(score: dict[str, Any]) -> float:
    """Mean IoU of background and foreground, from the IoU of the foreground and its fractions."""
    iou, true, found = score["iou"], score["foreground_fraction"], score["predicted_fraction"]
    right = iou * (true + found) / (1 + iou)
    return float(iou + (1 - true - found + right) / (1 - right)) / 2


def _by_losses(project: Path, run: str, steps: int) -> dict[str, str]:
    """The steps with the lowest losses, as names of models; the last step is the last model."""
    with Project.open(project) as opened:
        losses = TrainingState.read(checkpoint.find(opened.run(run), "last")).losses
    least = {name: step for name in LOSSES for step in model_selection.least(losses, name, steps)}
    return {name: "last" if step == steps else str(step) for name, step in least.items()}


def cluster_cell(whole: Split, folder: Path, cell: Cell, steps: int) -> dict[str, Any]:
    """Train clusters, then annotate five patches."""
    return clusters.cell(
        whole, folder, cell.amount, cell.seed, settings(*whole.data.settings), steps
    )


Measure = Callable[[Split, Path, Cell, int], dict[str, Any]]


def measured(
    measure: Measure, data: Path, work: Path, results: Path, steps: int, cell: Cell
) -> None:
    """Measure a cell unless its result exists."""
    path = cell.path(results)
    if path.exists():
        return
    folder = path.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    outcome = measure(split(data, work, cell.data), folder, cell, steps)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(outcome))
    beside.replace(path)
    shutil.rmtree(folder)
    print(f"{path.stem}: {json.dumps(outcome)}", file=sys.stderr, flush=True)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("part", choices=["labels", "clusters"])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--volumes", nargs="*", default=list(DATA), choices=list(DATA))
    parser.add_argument(
        "--amounts", nargs="*", type=int, default=[], help="shares or clusters; all where absent"
    )
    parser.add_argument("--rows", nargs="*", default=[], help="names of rows; all where absent")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, one thread each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, default=P2.steps, help="of every training; for trying out"
    )
    parser.add_argument("--write", action="store_true", help="put the tables into docs/")
    arguments = parser.parse_args()
    work, steps = arguments.work, arguments.steps
    results = work / f"{arguments.part}-{steps}"
    results.mkdir(parents=True, exist_ok=True)
    every = (
        label_cells(arguments.seeds)
        if arguments.part == "labels"
        else cluster_cells(arguments.seeds)
    )
    wanted = [
        cell
        for cell in every
        if cell.data in arguments.volumes
        and cell.amount in (arguments.amounts or [cell.amount])
        and cell.row in (arguments.rows or [cell.row])
    ]
    for name in {cell.data for cell in wanted}:
        split(arguments.data, work, name)
    measure = label_cell if arguments.part == "labels" else cluster_cell
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(partial(measured, measure, arguments.data, work, results, steps), wanted))
    found = {
        cell: json.loads(cell.path(results).read_text())
        for cell in every
        if cell.path(results).exists()
    }
    tables = report.label_tables if arguments.part == "labels" else report.cluster_tables
    page = "\n".join(
        tables({(cell.data, cell.amount, cell.row, cell.seed): one for cell, one in found.items()})
    )
    print(page)
    if arguments.write:
        adaptation_report.write(arguments.part, page, PAGE)


if __name__ == "__main__":
    main()
