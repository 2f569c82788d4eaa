"""Source -> target x method x seed on real volumes, by the command line, at equal optimiser steps.

Protocol P2: VNC and Lucchi binned by 4 in the plane (18.4 and 20 nm a pixel), network of 16 base maps and 3 levels,
64-pixel patches, batch 8, 1000 steps. Methods learn from all of the source and from the upper half of the target
(unlabelled); scores are of the target's lower half, 16 rows (64 voxels before binning) between. Target labels are read
by ``score`` alone.

    python benchmarks/adaptation.py DATA WORK --jobs 4        # DATA holds vnc/ and lucchi/, see docs/benchmarks.md

Runs that WORK holds already are not done again. The table goes to standard output as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from napari_emda.data.files import write_tiff

BIN = 4
FILES = {
    "vnc": ("vnc/image.tif", "vnc/mitochondria.tif", (50.0, 4.6, 4.6)),
    "lucchi": ("lucchi/image_every4.tif", "lucchi/mitochondria_every4.tif", (20.0, 5.0, 5.0)),
}
PAIRS = [("vnc", "lucchi"), ("lucchi", "vnc")]
GUARD = 16
STEPS = 1000
COLUMNS = (
    "method", "IoU (mean ± SD)", "per seed", "mean per-section IoU", "average precision", "foreground found / true",
    "seconds a run",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table: a name, a method and its settings."""

    name: str
    method: str
    settings: tuple[str, ...] = ()
    supervised: bool = False


ROWS = [
    Row("source only, weak augmentation", "source_only", ("augmentation=weak",)),
    Row("source only, strong augmentation", "source_only", ("augmentation=strong",)),
    Row("source only, weak, target's statistics", "source_only", ("augmentation=weak", "target_statistics=on")),
    Row("source only, strong, target's statistics", "source_only", ("augmentation=strong", "target_statistics=on")),
    Row("histogram", "histogram", ("augmentation=weak",)),
    Row("ynet", "ynet", ("augmentation=weak",)),
    Row("supervised on the target's upper half", "source_only", ("augmentation=weak",), supervised=True),
]


def binned(data: Path, work: Path, name: str) -> tuple[Path, Path, int]:
    """The volume and its labels binned in the plane, as TIFF; and its number of rows."""
    image, labels, (z, y, x) = FILES[name]
    paths = work / "data" / f"{name}.tif", work / "data" / f"{name}_labels.tif"
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for source, path in zip((image, labels), paths, strict=True):
        if path.exists():
            continue
        array = tifffile.imread(data / source).astype(np.float32)
        depth, height, width = array.shape
        mean = array.reshape(depth, height // BIN, BIN, width // BIN, BIN).mean((2, 4))
        small = (mean >= 0.5) if source == labels else mean.round()
        write_tiff(path, iter(small.astype(np.uint8)), small.shape, np.dtype(np.uint8), (z, y * BIN, x * BIN), "nm")
    return *paths, tifffile.TiffFile(paths[0]).series[0].shape[1]


def emda(*arguments: str | Path) -> dict[str, object]:
    """Run a command and return what it says on its last line."""
    command = [sys.executable, "-m", "napari_emda", *map(str, arguments), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(data: Path, work: Path, pair: tuple[str, str], row: Row, seed: int) -> dict[str, object]:
    """One run: its scores and seconds, from ``result.json`` when it was done before."""
    source, target = pair
    slug = "-".join([source, target, row.name.replace(" ", "_").replace(",", "").replace("'", ""), str(seed)])
    folder = work / "runs" / slug
    result = folder / "result.json"
    if result.exists():
        return dict(json.loads(result.read_text()))
    shutil.rmtree(folder, ignore_errors=True)
    image, labels, _ = binned(data, work, target if row.supervised else source)
    other, truth, rows = binned(data, work, target)
    upper, lower = f":,0:{rows // 2},:", f":,{rows // 2 + GUARD}:{rows},:"
    emda("new", folder, "--source", image, labels, "--target", other, "--classes", "background", "mitochondria")
    settings = ["patch=64", "base=16", "levels=3", "batch=8", f"target_box={upper}", *row.settings]
    settings += [f"source_box={upper}"] if row.supervised else []
    flags = [part for setting in settings for part in ("--set", setting)]
    # the last volume is the target, also where it is the source as well
    trained = emda("train", folder, "--method", row.method, "--steps", str(STEPS), "--seed", str(seed), *flags)
    score = emda("score", folder, "--against", truth, "--box", lower)
    outcome = {**score, "seconds": trained["seconds"], "losses": trained["losses"]}
    result.write_text(json.dumps(outcome))
    return outcome


def table(results: dict[tuple[tuple[str, str], Row], list[dict[str, object]]]) -> Iterator[str]:
    """Markdown: mean and standard deviation over the seeds."""
    for pair in PAIRS:
        yield f"\n### {pair[0]} → {pair[1]}\n"
        yield "| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|"
        for row in ROWS:
            done = results.get((pair, row), [])
            if done:
                yield "| " + " | ".join(_cells(row, done)) + " |"


def _cells(row: Row, done: list[dict[str, object]]) -> list[str]:
    def values(key: str) -> list[float]:
        return [float(result[key]) for result in done]  # type: ignore[arg-type]

    iou = values("iou")
    spread = f" ± {statistics.stdev(iou):.3f}" if len(iou) > 1 else ""
    found, true = (statistics.mean(values(key)) for key in ("predicted_fraction", "foreground_fraction"))
    return [
        row.name,
        f"**{statistics.mean(iou):.3f}**{spread}",
        ", ".join(f"{v:.3f}" for v in iou),
        f"{statistics.mean(values('section_iou')):.3f}",
        f"{statistics.mean(values('average_precision')):.3f}",
        f"{found:.3f} / {true:.3f}",
        f"{statistics.mean(values('seconds')):.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    for name in FILES:
        binned(arguments.data, arguments.work, name)
    wanted = [(seed, pair, row) for seed in range(arguments.seeds) for pair in PAIRS for row in ROWS]
    results: dict[tuple[tuple[str, str], Row], list[dict[str, object]]] = {}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        futures = {key: pool.submit(measure, arguments.data, arguments.work, key[1], key[2], key[0]) for key in wanted}
        for (seed, pair, row), future in futures.items():
            outcome = future.result()
            print(f"{pair[0]} -> {pair[1]}, {row.name}, seed {seed}: IoU {outcome['iou']:.3f}", file=sys.stderr)
            results.setdefault((pair, row), []).append(outcome)
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
