"""What each method finds: source, target, truth and every row of `adaptation.py` side by side.

    python -m benchmarks.pictures WORK FOLDER            # after adaptation.py DATA WORK
    python -m benchmarks.pictures WORK docs/images --maps

One PNG per pair, from the runs of seed 0: a section of the target's lower half, green where
prediction and truth agree, red where only the prediction and blue where only the truth is
foreground. The pictures show the data, whose licence may forbid publication; with ``--maps`` they
show only the colours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks import parser_of
from benchmarks.adaptation import GUARD, PROTOCOLS, ROWS, binned, slug_of
from benchmarks.adaptation_report import Pair
from napari_emda.data.box import Box
from napari_emda.inference import checkpoint
from napari_emda.inference.predictor import Predictor, predict_box
from napari_emda.project.project import Project

COLUMNS = 4
Image = NDArray[Any]


def overlaid(grey: Image | None, found: Image, true: Image) -> Image:
    """RGB: green where both, red where only ``found``, blue where only ``true``.

    The background is white where there is no image.
    """
    low, high = (0, 1) if grey is None else np.percentile(grey, (1, 99))
    grey = np.ones(found.shape) if grey is None else grey
    shown = np.repeat(np.clip((grey - low) / (high - low), 0, 1)[..., None], 3, axis=2)
    for mask, colour in (
        (found & true, (0, 0.7, 0)),
        (found & ~true, (0.9, 0, 0)),
        (true & ~found, (0.1, 0.2, 1)),
    ):
        shown[mask] = 0.45 * shown[mask] + 0.55 * np.array(colour)
    return shown


def panels(work: Path, name: str, pair: Pair, *, maps: bool) -> Iterator[tuple[str, Image]]:
    """Titles and pictures, one section each; ``maps`` without the images."""
    protocol = PROTOCOLS[name]
    source, target = (binned(Path(), work, volume, protocol.binning) for volume in pair)
    looks = [
        (tifffile.imread(path), tifffile.imread(labels) > 0) for path, labels, _ in (source, target)
    ]
    (old, old_labels), (new, truth) = looks
    z, top = len(new) // 3, target[2] // 2 + GUARD // protocol.binning
    half = slice(top, None)
    image, true = None if maps else new[z, half], truth[z, half]
    nothing = np.zeros(true.shape, bool)
    if not maps:
        first = len(old) // 3, slice(target[2] - top)
        yield (
            f"source: {pair[0]}, labelled",
            overlaid(old[first], old_labels[first], old_labels[first]),
        )
        yield f"target: {pair[1]}", overlaid(image, nothing, nothing)
    yield "truth", overlaid(image, true, true)
    for row in ROWS:
        folder = work / "runs" / slug_of(name, pair, row, 0)
        if not (folder / "result.json").exists():
            continue
        result = json.loads((folder / "result.json").read_text())
        with Project.open(folder) as project:
            volume = project.volumes.open(project.volumes.target().name)
            predictor = Predictor.load(checkpoint.find(project.run(result["run"])), "cpu")
            box = Box((z, top, 0), (z + 1, *volume.shape[1:]))
            found = predict_box(predictor, volume, box)[0] > 127
        yield f"{row.name}\nIoU {result['iou']:.2f}", overlaid(image, found, true)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="p2")
    parser.add_argument(
        "--maps", action="store_true", help="agreement and errors alone, without the images"
    )
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for pair in PROTOCOLS[arguments.protocol].pairs:
        shown = list(panels(arguments.work, arguments.protocol, pair, maps=arguments.maps))
        rows = -(-len(shown) // COLUMNS)
        figure, axes = plt.subplots(rows, COLUMNS, figsize=(4 * COLUMNS, 2.3 * rows), squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, (title, image) in zip(axes.flat, shown, strict=False):
            axis.set_axis_on()
            axis.set(xticks=[], yticks=[])
            axis.imshow(image)
            axis.set_title(title, fontsize=9)
        figure.tight_layout()
        figure.savefig(arguments.folder / f"adaptation-{pair[0]}-{pair[1]}.png", dpi=80)


if __name__ == "__main__":
    main()
