"""Source -> target x method x seed on real volumes, by the command line, at equal optimiser steps.

    python -m benchmarks.adaptation DATA WORK --jobs 4                   # protocol P2, on CPUs
    python -m benchmarks.adaptation DATA WORK --protocol p2b --jobs 4    # finer pixels
    python -m benchmarks.adaptation DATA WORK --protocol membranes       # not tuned on
    python -m benchmarks.adaptation DATA WORK --protocol gpu             # native, one GPU
    python -m benchmarks.adaptation DATA WORK --protocol phantom --jobs 4

DATA contains vnc/ and lucchi/, see docs/benchmarks.md. Methods train on all of the source and on
the unlabelled upper half of the target. The lower half is scored; 64 voxels in between are left
out. Target labels are used only by ``score`` and to find the best checkpoint of a run, which is
unknown in practice. Runs with a result in WORK are not repeated. The tables go to standard output
as Markdown, and with ``--write`` also to pages in docs/. The cost of a step is read from
WORK/step_cost.json (``python -m benchmarks.step_cost --write WORK/step_cost.json``).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from benchmarks import adaptation_report as report
from benchmarks import parser_of, selection
from benchmarks.adaptation_report import Pair
from napari_emda.data.box import Box
from napari_emda.data.volume import Domain
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.inference.device import configure_process
from napari_emda.io.read import open_labels
from napari_emda.io.tiff import write_tiff
from napari_emda.project.project import Project
from napari_emda.synthetic.phantom import SPACING, phantom

FILES = {
    "vnc": ("vnc/image.tif", "vnc/mitochondria.tif", (50.0, 4.6, 4.6)),
    "lucchi": ("lucchi/image_every4.tif", "lucchi/mitochondria_every4.tif", (20.0, 5.0, 5.0)),
    "vnc_membranes": ("vnc/image.tif", "vnc/membranes.tif", (50.0, 4.6, 4.6)),
    "isbi_membranes": ("isbi2012/image.tif", "isbi2012/membranes.tif", (50.0, 4.0, 4.0)),
}
GUARD = 64
"""Voxels between the part used for adaptation and the part that is scored."""


@dataclass(frozen=True)
class Row:
    """One row of the table: a name, a method and its settings."""

    name: str
    method: str
    settings: tuple[str, ...] = ()
    supervised: bool = False
    transductive: bool = False
    longer: int = 1


@dataclass(frozen=True)
class Protocol:
    """Volumes, resolution, network and length.

    Attributes:
        pairs: source and target.
        binning: pixels averaged in the plane.
        steps: of the optimiser.
        profile: settings to begin with.
        settings: on top.
        rows: names of the rows; all where empty.
    """

    pairs: tuple[Pair, ...]
    binning: int
    steps: int
    profile: str
    settings: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


REAL = (("vnc", "lucchi"), ("lucchi", "vnc"))
MEMBRANES = (("vnc_membranes", "isbi_membranes"), ("isbi_membranes", "vnc_membranes"))
_P2 = ("patch=64", "base_channels=16", "depth=3", "batch=8")
_FEW = ("source only, weak augmentation", "source only, strong augmentation", "ynet", "auto")
PROTOCOLS = {
    "p2": Protocol(REAL, 4, 1000, "fast", _P2),
    "p2b": Protocol(
        REAL, 2, 2000, "fast", ("patch=128", "base_channels=16", "depth=4", "batch=8"), _FEW
    ),
    "membranes": Protocol(MEMBRANES, 2, 1000, "fast", _P2, _FEW),
    "native": Protocol(REAL, 1, 2000, "standard"),
    "gpu": Protocol(REAL, 1, 10_000, "standard"),
    "phantom": Protocol((("phantom_a", "phantom_b"),), 1, 250, "test"),
}

ROWS = [
    Row("source only, weak augmentation", "source_only"),
    Row("source only, strong augmentation", "source_only", ("augmentation=strong",)),
    Row("auto", "auto"),
    Row("adabn (source only, weak, target's statistics)", "adabn"),
    Row(
        "source only, strong, target's statistics",
        "source_only",
        ("augmentation=strong", "target_statistics=on"),
    ),
    Row("histogram", "histogram"),
    Row("fourier", "fourier"),
    Row("mmd", "mmd"),
    Row("coral", "coral"),
    Row("dann", "dann"),
    Row("ynet", "ynet"),
    Row("denoising", "denoising"),
    Row("mean_teacher", "mean_teacher"),
    Row("supervised on the target's upper half", "source_only", supervised=True),
    Row("source only, weak, 3 x the steps", "source_only", longer=3),
    Row("auto, transductive", "auto", transductive=True),
    Row("uda", "uda"),
    Row("damt", "damt"),
    Row("attention_ynet", "attention_ynet"),
    Row("style_transfer", "style_transfer"),
]


def binned(data: Path, work: Path, name: str, times: int) -> tuple[Path, Path, int]:
    """Bin a volume and its labels in the plane, as TIFF; returns the number of rows."""
    paths = work / "data" / f"{name}_{times}.tif", work / "data" / f"{name}_{times}_labels.tif"
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    if name not in FILES:
        _write_phantom(paths, name)
        return *paths, tifffile.TiffFile(paths[0]).series[0].shape[1]
    image, labels, (z, y, x) = FILES[name]
    for source, path in zip((image, labels), paths, strict=True):
        if path.exists():
            continue
        array = tifffile.imread(data / source).astype(np.float32)
        sections, height, width = array.shape
        mean = array.reshape(sections, height // times, times, width // times, times).mean((2, 4))
        small = (mean >= 0.5) if source == labels else mean.round()
        write_tiff(
            path,
            iter(small.astype(np.uint8)),
            small.shape,
            np.dtype(np.uint8),
            VoxelGrid((z, y * times, x * times)),
        )
    return *paths, tifffile.TiffFile(paths[0]).series[0].shape[1]


ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def _write_phantom(paths: tuple[Path, Path], name: str) -> None:
    domain: Domain = "source" if name == "phantom_a" else "target"
    for path, array in zip(paths, phantom((8, 256, 256), domain, 0), strict=True):
        write_tiff(path, iter(array), array.shape, array.dtype, VoxelGrid(SPACING))


def emda(*arguments: str | Path) -> dict[str, object]:
    """Run a command and return the JSON object of its last line."""
    command = [sys.executable, "-m", "napari_emda", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def slug_of(name: str, pair: Pair, row: Row, seed: int) -> str:
    """The folder of a run, below ``runs``."""
    return "-".join([name, *pair, re.sub(r"[^a-z0-9]+", "_", row.name), str(seed)])


def measure(
    data: Path, work: Path, name: str, pair: Pair, row: Row, seed: int, settings: tuple[str, ...]
) -> dict[str, object]:
    """Scores and seconds of one run, from ``result.json`` if it exists."""
    protocol = PROTOCOLS[name]
    source, target = pair
    folder = work / "runs" / slug_of(name, pair, row, seed)
    result = folder / "result.json"
    if result.exists():
        return dict(json.loads(result.read_text()))
    shutil.rmtree(folder, ignore_errors=True)
    image, labels, _ = binned(data, work, target if row.supervised else source, protocol.binning)
    other, truth, rows = binned(data, work, target, protocol.binning)
    upper, lower = f":,0:{rows // 2},:", f":,{rows // 2 + GUARD // protocol.binning}:{rows},:"
    emda(
        "new",
        folder,
        "--source",
        image,
        labels,
        "--target",
        other,
        "--classes",
        "background",
        "structure",
    )
    settings = (*protocol.settings, *row.settings, *settings, "checkpoints_kept=1000")
    settings += () if row.transductive else (f"target_box={upper}",)
    settings += (f"source_box={upper}",) if row.supervised else ()
    flags = [part for setting in settings for part in ("--set", setting)]
    flags += [
        "--profile",
        protocol.profile,
        "--steps",
        str(protocol.steps * row.longer),
        "--seed",
        str(seed),
    ]
    # the last volume is the target, also where it is the source as well
    trained = emda("train", folder, "--method", row.method, *flags)
    checked = ["--against", truth, "--box", lower]
    score = emda("score", folder, *checked)
    last = emda("score", folder, *checked, "--checkpoint", "last")
    command = [
        sys.executable,
        "-m",
        "benchmarks.adaptation",
        "--best",
        str(folder),
        str(trained["run"]),
        str(truth),
        lower,
    ]
    best = json.loads(
        subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD, check=True).stdout
    )
    outcome = {
        **score,
        "last": last["iou"],
        **best,
        **{key: trained[key] for key in ("seconds", "selected_step")},
    }
    shutil.rmtree(folder / "runs" / str(trained["run"]) / "candidates", ignore_errors=True)
    result.write_text(json.dumps(outcome))
    return outcome


def _print_best(folder: str, run: str, labels: str, box: str) -> None:
    """Print the IoU lost by each choice against the best model of a run."""
    configure_process(1)
    with Project.open(folder) as project:
        truth = open_labels(Path(labels)).array
        rows = selection.evaluate(project, run, truth, Box.parse(box, truth.shape), every=3)
    print(json.dumps({"choices": selection.summary(rows)}))


def main() -> None:
    if sys.argv[1:2] == ["--best"]:
        _print_best(*sys.argv[2:])
        return
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="p2")
    parser.add_argument(
        "--rows", nargs="*", default=[], help="names of rows; all of the protocol's where absent"
    )
    parser.add_argument("--steps", type=int, help="of the optimiser; the protocol's where absent")
    parser.add_argument("--set", action="append", default=[], help="of every run, as in `train`")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/")
    arguments = parser.parse_args()
    protocol = PROTOCOLS[arguments.protocol]
    if arguments.steps:
        PROTOCOLS[arguments.protocol] = protocol = replace(protocol, steps=arguments.steps)
    for name in {name for pair in protocol.pairs for name in pair}:
        binned(arguments.data, arguments.work, name, protocol.binning)
    rows = [row for row in ROWS if row.name in (arguments.rows or protocol.rows or [row.name])]
    results: dict[Pair, dict[str, list[dict[str, Any]]]] = {pair: {} for pair in protocol.pairs}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        futures = {
            (seed, pair, row.name): pool.submit(
                measure,
                arguments.data,
                arguments.work,
                arguments.protocol,
                pair,
                row,
                seed,
                tuple(arguments.set),
            )
            for row in rows
            for seed in range(arguments.seeds)
            for pair in protocol.pairs
        }
        for (seed, pair, name), future in futures.items():
            outcome = future.result()
            print(
                f"{pair[0]} -> {pair[1]}, {name}, seed {seed}: IoU {outcome['iou']:.3f}",
                file=sys.stderr,
                flush=True,
            )
            results[pair].setdefault(name, []).append(outcome)
    costs = arguments.work / "step_cost.json"
    measured_costs = json.loads(costs.read_text()) if costs.exists() else {}
    methods = {row.name: row.method for row in rows}
    text = "\n".join(report.tables(results, measured_costs, methods))
    choices = "\n".join(report.selection_table(results))
    print(text, choices, sep="\n\n")
    if arguments.write:
        report.write(arguments.protocol, text)
        if arguments.protocol == "p2":
            report.write("p5", choices, report.PAGE.with_name("stopping.md"))
            overview = "\n".join(report.overview(results, measured_costs, methods))
            report.write("overview", overview, report.PAGE.with_name("which-method.md"))


if __name__ == "__main__":
    main()
