"""What depth is worth, at equal processor time on one core.

    python -m benchmarks.depth results.jsonl --seconds 600 --seeds 3
    python -m benchmarks.depth results.jsonl --size p2 --seconds 150
    python -m benchmarks.depth results.jsonl --kinds supervised --data vnc --depths 2-D 3-D
    python -m benchmarks.depth costs.json --costs             # of steps, for a GPU
    python -m benchmarks.depth results.jsonl --size p2 --device cuda --costs-of costs.json
    python -m benchmarks.depth results.jsonl --table          # what is there, as Markdown
    python -m benchmarks.depth - --speed                      # of predictions

DATA contains vnc/ and lucchi/, see docs/benchmark-few-labels.md. Three kinds of training:

- ``supervised``: `source_only` on all labels of the upper half of the rows;
- ``patches``: `finetune` without a source on 20 patches of that half, at the same places whatever
  the network sees;
- ``auto``: adapted from VNC to Lucchi and back, with the unlabelled upper half of the target.

``--size fast`` trains networks and patches of that profile. ``p2`` takes the small ones of the
protocol P2 (benchmarks/adaptation.py), which converge within minutes on one core.

The lower half is scored, and 64 voxels in between are left out. A network that sees more sections
costs more per step: before each training a few steps are timed, and it gets as many steps as fit
into the seconds, so that its learning rate falls to the end. Processor time counts, not the clock;
what a training does between its steps is left out for all alike. On a GPU, a training takes as many
steps as one core would do in the seconds, by what was measured of that core before.

Beside the IoU of the whole lower half, supervised trainings say what one bad section does: every
fifth section is black, shifted by 20 pixels or has another contrast, and only the sections before
and after it are scored. How spoilt sections are found is part of it.

Results are appended one by one; those that are there are not measured again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from benchmarks import parser_of
from benchmarks.adaptation import GUARD
from benchmarks.common import phantom_pair, training
from napari_emda.data.box import Box
from napari_emda.data.volume import Domain, Volume
from napari_emda.data.voxel_grid import Spacing, VoxelGrid
from napari_emda.inference.device import configure_process
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor, predict_box
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.training import TrainSettings
from napari_emda.training.loop import fit
from napari_emda.training.trainer import Training

# What the network sees: settings of the training and of the network. In `fast`, a step of the 3-D
# network sees about as many pixels as one of the others, in two stacks; in `p2` twice as many.
DEPTHS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "2-D": ({}, {}),
    "context 1": ({"context": 1}, {}),
    "context 2": ({"context": 2}, {}),
    "3-D": ({"network": "unet_3d", "batch": 2}, {"sections": 16}),
}
# Settings by size, in this order: of all trainings, of all networks, of the 3-D trainings.
SIZES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "fast": ({}, {}, {"patch": 96}),
    "p2": ({"patch": 64, "batch": 8}, {"base_channels": 16, "depth": 3}, {}),
}
# Steps that are timed before a training, and those before them, in which libraries are loaded.
_TIMED = 30
_WARM = 5
# Annotated patches, and their side in pixels, as a user is offered them by default.
_PATCHES = 20
_SIDE = 128
# Every how many sections one is spoilt, so that no scored section has two such neighbours.
_EVERY = 5
# Pixels by which a section is shifted.
_SHIFT = 20
BAD = ("intact", "black", "shifted", "contrast")


@dataclass(frozen=True)
class Data:
    """A labelled volume, averaged in the plane.

    Attributes:
        image, labels: files.
        spacing: z, y, x in nm, before averaging.
        binning: pixels averaged along y and x.
    """

    image: str
    labels: str
    spacing: Spacing
    binning: int

    def read(self, folder: Path, domain: Domain) -> Volume:
        """The volume, of whose pixels most decide the class."""
        n = self.binning
        image, labels = (
            _averaged(tifffile.imread(folder / name), n) for name in (self.image, self.labels)
        )
        z, y, x = self.spacing
        grid = VoxelGrid((z, n * y, n * x))
        ids = (labels >= 0.5).astype(np.uint8)
        return Volume(domain, image.round().astype(np.uint8), domain, grid, labels=ids)

    def halves(self, shape: tuple[int, int, int]) -> tuple[Box, Box]:
        """The upper half, and the lower one without the rows next to it."""
        depth, rows, columns = shape
        first = rows // 2 + -(-GUARD // self.binning)
        upper = Box((0, 0, 0), (depth, rows // 2, columns))
        return upper, Box((0, first, 0), shape)


DATA = {
    "vnc": Data("vnc/image.tif", "vnc/mitochondria.tif", (50.0, 4.6, 4.6), 4),
    "lucchi": Data("lucchi/image_10nm.tif", "lucchi/mitochondria_10nm.tif", (10.0, 10.0, 10.0), 1),
    "lucchi_every4": Data(
        "lucchi/image_every4.tif", "lucchi/mitochondria_every4.tif", (20.0, 5.0, 5.0), 2
    ),
    # As coarse as VNC, to adapt one to the other.
    "lucchi_20nm": Data(
        "lucchi/image_every4.tif", "lucchi/mitochondria_every4.tif", (20.0, 5.0, 5.0), 4
    ),
}
# What each kind of training is done on; for `auto` the target, with its source.
ON = {
    "supervised": ("vnc", "lucchi", "lucchi_every4"),
    "patches": ("vnc", "lucchi", "lucchi_every4"),
    "auto": ("vnc", "lucchi_20nm"),
}
SOURCE_OF = {"vnc": "lucchi_20nm", "lucchi_20nm": "vnc"}


@dataclass(frozen=True)
class Cell:
    """One training: what is written with its result, and identifies it."""

    kind: str
    data: str
    depth: str
    seed: int
    seconds: float
    size: str = "fast"


def _averaged(array: NDArray[Any], n: int) -> NDArray[np.float32]:
    depth, rows, columns = (side // step for side, step in zip(array.shape, (1, n, n), strict=True))
    cut = array[:, : rows * n, : columns * n].astype(np.float32)
    means: NDArray[np.float32] = cut.reshape(depth, rows, n, columns, n).mean((2, 4))
    return means


# -- training --------------------------------------------------------------------------------------


def _volumes(cell: Cell, folder: Path) -> tuple[list[Volume], dict[str, str], Volume, Box]:
    """What a training may see, its boxes, the volume that is scored and the box in it."""
    data = DATA[cell.data]
    if cell.kind == "supervised":
        volume = data.read(folder, "source")
        upper, lower = data.halves(volume.shape)
        return [volume], {"source_box": str(upper)}, volume, lower
    volume = data.read(folder, "target")
    upper, lower = data.halves(volume.shape)
    hidden = volume.without_labels()
    if cell.kind == "auto":
        source = DATA[SOURCE_OF[cell.data]].read(folder, "source")
        return [source, hidden], {"target_box": str(upper)}, volume, lower
    assert volume.labels is not None
    annotated = replace(hidden, annotations=_patches(np.asarray(volume.labels), upper, cell.seed))
    return [annotated], {"target_box": str(upper)}, volume, lower


def _patches(labels: NDArray[np.uint8], box: Box, seed: int) -> NDArray[np.uint8]:
    """Annotations of squares in single sections; half of them hold some of the structure."""
    rng = np.random.default_rng(seed)
    annotations = np.zeros_like(labels)
    depth, rows, columns = box.shape
    side = min(_SIDE, rows, columns)
    wanted = [index % 2 == 0 for index in range(_PATCHES)]
    while wanted:
        z = rng.integers(depth)
        y = rng.integers(rows - side + 1)
        x = rng.integers(columns - side + 1)
        place = (z, slice(y, y + side), slice(x, x + side))
        if wanted[-1] and not labels[place].any():
            continue
        annotations[place] = labels[place] + 1
        wanted.pop()
    return annotations


def _training(
    cell: Cell, volumes: list[Volume], folder: Path, device: str, **values: Any
) -> Training:
    method = {"supervised": "source_only", "patches": "finetune", "auto": "auto"}[cell.kind]
    seen, network = DEPTHS[cell.depth]
    small, small_network, stacks = SIZES[cell.size]
    chosen = small | seen | (stacks if cell.depth == "3-D" else {}) | values
    settings = TrainSettings.for_profile(
        "fast", seed=cell.seed, device=device, precision="32", **chosen
    )
    return training(method, settings, volumes, folder, small_network | network, validates=True)


def seconds_per_step(timed: Training) -> float:
    """Processor seconds of a step, drawing and augmenting the batch included."""
    for step in range(_WARM + _TIMED):
        if step == _WARM:
            began = time.process_time()
        timed.step(timed.on_device(timed.batch(step), step), step)
    return (time.process_time() - began) / _TIMED


def cost(cell: Cell, data: Path) -> float:
    """Processor seconds of a step on this core."""
    volumes, boxes, _, _ = _volumes(cell, data)
    with tempfile.TemporaryDirectory() as folder:
        return seconds_per_step(_training(cell, volumes, Path(folder), "cpu", **boxes))


def measured(cell: Cell, data: Path, device: str, per_step: float) -> dict[str, Any]:
    """Train, predict the volume and score it."""
    volumes, boxes, scored, box = _volumes(cell, data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = max(1, round(cell.seconds / per_step))
        work = _training(cell, volumes, folder / "run", device, steps=steps, **boxes)
        began = time.process_time()
        for _ in fit(work):
            pass
        took = time.process_time() - began
        predictor = Predictor.load(folder / "run", device, "32")
        settings = PredictSettings(uncertainty=False)
        for _ in predict(predictor, scored.without_labels(), settings, RunFolder(folder / "run")):
            pass
        stored = StoredPrediction(RunFolder(folder / "run"), scored.name).probabilities
        found = np.asarray(stored[(0, *box.slices)]) > 127
        truth = scored.read_labels(box) == 1
        result = {"iou": _iou(found, truth), "steps": steps, "took": round(took, 1)}
        if cell.kind == "supervised":
            result |= {kind: _beside_bad(predictor, scored, box, kind) for kind in BAD}
    return result


def _iou(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((found & truth).sum() / max(1, (found | truth).sum()))


def _beside_bad(predictor: Predictor, volume: Volume, box: Box, kind: str) -> float:
    """IoU of the sections before and after those that are made bad."""
    image = np.array(volume.image)
    bad = range(_EVERY // 2, len(image) - 1, _EVERY)
    for z in bad:
        if kind == "black":
            image[z] = 0
        elif kind == "shifted":
            image[z] = np.roll(image[z], _SHIFT, axis=1)
        elif kind == "contrast":
            image[z] = (128 + 0.5 * (image[z].astype(float) - 128) + 30).clip(0, 255)
    # Found in this image, and not taken from the training; grey values stay those of the training.
    predictor.header = predictor.header.model_copy(update={"spoilt": {}})
    changed = replace(volume, image=image, labels=None)
    context = predictor.context_of(changed)
    found = []
    truth = []
    for z in (z for middle in bad for z in (middle - 1, middle + 1)):
        part = Box((z, *box.start[1:]), (z + 1, *box.stop[1:]))
        found.append(predict_box(predictor, changed, part, context)[0] > 127)
        truth.append(volume.read_labels(part)[0] == 1)
    return _iou(np.stack(found), np.stack(truth))


def speeds(rounds: int) -> Iterator[str]:
    """Processor time of a prediction, and as a multiple of 2-D's; all take turns, medians."""
    volumes = phantom_pair(256)
    target = volumes[1]
    # Thinner than the halo along z would be flattering: 96 sections.
    image = np.concatenate([target.image, target.image[::-1]] * (48 // len(target.image) + 1))[:96]
    deep = replace(target, image=image, name="deep")
    with tempfile.TemporaryDirectory() as name:
        predictors = {}
        for depth, (seen, network) in DEPTHS.items():
            settings = TrainSettings.for_profile("fast", steps=1, device="cpu", precision="32")
            settings = settings.model_copy(update={**seen, "batch": 1})
            work = training("histogram", settings, volumes, Path(name) / depth, network)
            for _ in fit(work):
                pass
            predictors[depth] = Predictor.load(work.path, "cpu", "32")
        seconds: dict[str, list[float]] = {depth: [] for depth in DEPTHS}
        for index in range(rounds):
            for depth, predictor in predictors.items():
                folder = RunFolder(Path(name) / f"{index} {depth}")
                began = time.process_time()
                for _ in predict(predictor, deep, PredictSettings(uncertainty=False), folder):
                    pass
                seconds[depth].append(time.process_time() - began)
    yield "| sees | processor seconds a Mvoxel | as a multiple of 2-D |"
    yield "|---|---|---|"
    plain = np.array(seconds["2-D"])
    for depth, taken in seconds.items():
        ratio = np.median(np.array(taken) / plain)
        yield f"| {depth} | {np.median(taken) * 1e6 / image.size:.2f} | {ratio:.2f} |"


# -- results ---------------------------------------------------------------------------------------


def read(path: Path) -> dict[Cell, dict[str, Any]]:
    """Results by cell; those of an interrupted line are left out."""
    results = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        results[Cell(**entry["cell"])] = entry["result"]
    return results


def table(results: dict[Cell, dict[str, Any]]) -> Iterator[str]:
    """Means over seeds, and the smallest and largest, a row for each kind, volume and depth."""
    groups: dict[tuple[str, str, str, str, float], list[dict[str, Any]]] = {}
    for cell, result in results.items():
        key = (cell.size, cell.kind, cell.data, cell.depth, cell.seconds)
        groups.setdefault(key, []).append(result)
    yield "| size | training | volume | sees | seconds | seeds | steps | IoU | lowest to highest |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for (size, kind, data, depth, seconds), rows in sorted(groups.items()):
        ious = [row["iou"] for row in rows]
        steps = np.mean([row["steps"] for row in rows])
        yield (
            f"| {size} | {kind} | {data} | {depth} | {seconds:g} | {len(rows)} | {steps:.0f} | "
            f"{np.mean(ious):.3f} | {min(ious):.3f} to {max(ious):.3f} |"
        )
    yield ""
    yield "| size | volume | sees | beside intact sections | black | shifted | other contrast |"
    yield "|---|---|---|---|---|---|---|"
    for (size, kind, data, depth, _), rows in sorted(groups.items()):
        if kind == "supervised":
            means = [f"{np.mean([row[bad] for row in rows]):.3f}" for bad in BAD]
            yield f"| {size} | {data} | {depth} | {' | '.join(means)} |"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("../shared/data"), help="DATA")
    parser.add_argument("--seconds", type=float, default=600, help="processor time of a training")
    parser.add_argument("--size", choices=SIZES, default="fast", help="of networks and patches")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--depths", nargs="+", choices=DEPTHS, default=list(DEPTHS))
    parser.add_argument("--kinds", nargs="+", choices=ON, default=list(ON))
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of trainings")
    parser.add_argument("--costs", action="store_true", help="measure those of steps only")
    parser.add_argument("--costs-of", type=Path, help="file of --costs, instead of timing steps")
    parser.add_argument("--table", action="store_true", help="print what is there only")
    parser.add_argument("--speed", action="store_true", help="time predictions only")
    arguments = parser.parse_args()
    if arguments.speed:
        configure_process(1, polite=False)
        torch.set_num_threads(1)
        print("\n".join(speeds(rounds=5)))
        return
    if arguments.costs:
        measure_costs(arguments)
        return
    if not arguments.table:
        run(arguments)
    print("\n".join(table(read(arguments.results))))


def _cells(arguments: argparse.Namespace) -> list[Cell]:
    """Seed by seed, so that a part is a whole table."""
    return [
        Cell(kind, data, depth, seed, arguments.seconds, arguments.size)
        for seed in range(arguments.seeds)
        for kind in arguments.kinds
        for data in ON[kind]
        if data in arguments.data
        for depth in arguments.depths
    ]


def _kind_of(cell: Cell) -> str:
    return " ".join((cell.size, cell.kind, cell.data, cell.depth))


def measure_costs(arguments: argparse.Namespace) -> None:
    """Write the processor seconds of a step of each kind of training."""
    torch.set_num_threads(1)
    costs = {}
    for cell in _cells(arguments):
        if cell.seed == 0:
            costs[_kind_of(cell)] = cost(cell, arguments.folder)
            arguments.results.write_text(json.dumps(costs, indent=1))


def run(arguments: argparse.Namespace) -> None:
    """Measure all cells that have no result yet."""
    configure_process(1, polite=False)
    torch.set_num_threads(1)
    costs = json.loads(arguments.costs_of.read_text()) if arguments.costs_of else {}
    done = read(arguments.results)
    for cell in _cells(arguments):
        if cell in done:
            continue
        per_step = costs.get(_kind_of(cell)) or cost(cell, arguments.folder)
        result = measured(cell, arguments.folder, arguments.device, per_step)
        with arguments.results.open("a") as file:
            print(json.dumps({"cell": vars(cell), "result": result}), file=file, flush=True)


if __name__ == "__main__":
    main()
