"""Where the errors of predictions come from: objects missed, spurious objects, outlines.

    python -m benchmarks.errors TRUTH PROJECT... [--box BOX]

PROJECT is a folder with predictions of the target, as `adaptation.py`, `quality.py` and
`few_labels.py` leave them in their WORK; TRUTH holds its labels. A row of the table for each run
that has predicted the target, the first foreground class at a threshold of 0.5:

- *found*: share of the true area in objects that were found;
- *spurious*: share of the predicted area in objects that are none;
- *outlines*: IoU of the true objects that were found with the predicted ones that are no spurious
  ones;
- *no spurious*: the IoU if somebody deleted every spurious object;
- *true outlines*: the IoU if the outline of every found object were the true one.

Objects are connected pixels of a section, corners included. One is found, or not spurious, if at
least a tenth of its area is covered by the mask, or by the truth: less is a touch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks import parser_of
from napari_emda.data.box import Box
from napari_emda.data.probabilities import class_ids
from napari_emda.io.read import open_labels
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction

COVERED = 0.1
"""Share of an object that must be covered, so that it is found, or is not spurious."""

# Neighbours within a section, corners included; none in other sections.
_IN_SECTION = np.zeros((3, 3, 3), bool)
_IN_SECTION[1] = True

COLUMNS = ("project", "run", "IoU", "found", "spurious", "outlines", "no spurious", "true outlines")


@dataclass(frozen=True)
class Errors:
    """Shares of areas and intersections over unions; NaN where there is no area."""

    iou: float
    found: float
    spurious: float
    outlines: float
    without_spurious: float
    with_true_outlines: float


def errors_of(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> Errors:
    """Decompose the errors of a mask, both (Z, Y, X)."""
    found = _covered(true, predicted)
    real = _covered(predicted, true)
    return Errors(
        iou=_iou(predicted, true),
        found=_share(found, true),
        spurious=1.0 - _share(real, predicted),
        outlines=_iou(real, found),
        without_spurious=_iou(real, true),
        with_true_outlines=_iou(found | (predicted & ~real), true),
    )


def _covered(objects: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those of the objects that a mask covers by `COVERED` of their area."""
    numbers, count = ndimage.label(objects, _IN_SECTION)
    areas = np.bincount(numbers.ravel(), minlength=count + 1)
    shared = np.bincount(numbers[mask], minlength=count + 1)
    kept = shared >= COVERED * areas
    kept[0] = False
    covered: NDArray[np.bool_] = kept[numbers]
    return covered


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return _share(one & other, one | other)


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    area = int(whole.sum())
    return int(part.sum()) / area if area else float("nan")


def rows(folder: Path, truth: Path, text: str) -> Iterator[tuple[str, Errors]]:
    """The runs of a project that have predicted the target, and their errors in a box."""
    true = open_labels(truth).array
    box = Box.parse(text, true.shape) if text else Box((0, 0, 0), true.shape)
    inside = np.asarray(true[box.slices]) > 0
    with Project.open(folder) as project:
        target = project.volumes.target().name
        for name in project.runs.names():
            stored = StoredPrediction(RunFolder.of(folder, name), target)
            if stored.run.probabilities(target).exists():
                probabilities = np.asarray(stored.probabilities[(slice(0, 1), *box.slices)])
                yield name, errors_of(class_ids(probabilities) > 0, inside)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("truth", type=Path)
    parser.add_argument("projects", type=Path, nargs="+")
    parser.add_argument("--box", default="", help="the part that counts, as in `score --box`")
    options = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    for folder in options.projects:
        for name, errors in rows(folder, options.truth, options.box):
            numbers = " | ".join(f"{value:.3f}" for value in astuple(errors))
            print(f"| {folder.name} | {name} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
