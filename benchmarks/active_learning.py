"""Does it matter which patches are annotated? Two protocols with a simulated annotator.

*pool*: the protocol of Roels and Saeys 2019 at a smaller size (P3). Training starts from scratch
with 20 random patches. In each round a strategy picks 20 more from a pool of random ones, and the
network continues from the round before. Full supervision is the upper bound; shuffled scores are
the negative control.

*product*: starts from an adapted model (VNC to Lucchi and back). Rounds of 5 patches are run with
the same jobs as the command line. It counts the pixels that an annotator has to paint, from the
model's prediction and from nothing. *known errors* picks the patches with most wrong pixels
according to the labels: an upper bound for strategies that look for errors.

The upper half of the rows is used for training, the lower half is scored, and 16 rows in between
(64 voxels before binning) are left out.

    python -m benchmarks.active_learning pool DATA WORK --jobs 4
    python -m benchmarks.active_learning product DATA WORK --jobs 4
    python -m benchmarks.active_learning pool DATA WORK --full   # full resolution; needs a GPU

DATA contains vnc/ and lucchi/, see docs/benchmarks.md. Cells (data, strategy, seed) with a result
in WORK are not run again. With ``--write`` tables and figures go to
docs/benchmark-active-learning.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import parser_of
from benchmarks.active_learning_pool import CEILING, CONTROL, FULL, SHRUNK, pool_cell, volume_of
from benchmarks.active_learning_product import KNOWN, product_cell
from benchmarks.active_learning_report import Curve, tables, write_page
from benchmarks.adaptation import PROTOCOLS, REAL, binned
from napari_emda.active_learning.strategy import strategies
from napari_emda.inference.device import configure_process
from napari_emda.settings.suggestion import QuerySettings


@dataclass(frozen=True)
class Cell:
    """One curve: a volume or a pair of volumes, a strategy, a seed."""

    data: tuple[str, ...]
    strategy: str
    seed: int

    @property
    def slug(self) -> str:
        """The name of its file."""
        return "-".join([*self.data, self.strategy.replace(" ", "_"), str(self.seed)])


def cells(arguments: argparse.Namespace) -> list[Cell]:
    """All cells of the protocol, seeds first, so that an incomplete run is useful."""
    if arguments.protocol == "pool":
        names, data = (
            [CEILING, "random", CONTROL, *sorted({*strategies.names()} - {"random"})],
            [pair[:1] for pair in REAL],
        )
    else:
        names, data = [CEILING, "random", QuerySettings().strategy, "coverage", KNOWN], [*REAL]
    wanted = [
        Cell(where, name, seed)
        for seed in range(arguments.seeds)
        for where in data
        for name in names
    ]
    return [
        cell
        for cell in wanted
        if not arguments.strategies or cell.strategy in arguments.strategies.split(",")
    ]


def run(arguments: argparse.Namespace, cell: Cell) -> None:
    """Measure a cell in this process and store its result."""
    configure_process(None if arguments.full else 1)
    folder = results(arguments) / cell.slug
    if arguments.protocol == "pool":
        protocol = FULL if arguments.full else SHRUNK
        truth = volume_of(arguments.data, arguments.work, cell.data[0], protocol.bin)
        outcome = pool_cell(protocol, truth, cell.strategy, cell.seed, folder)
    else:
        pair = cell.data[0], cell.data[1]
        outcome = product_cell(
            arguments.data, arguments.work, pair, cell.strategy, cell.seed, folder
        )
    shutil.rmtree(folder)
    beside = folder.with_suffix(".part")
    beside.write_text(json.dumps(outcome))
    beside.replace(folder.with_suffix(".json"))


def results(arguments: argparse.Namespace) -> Path:
    """The folder with the results of a protocol."""
    return Path(
        arguments.work / (f"{arguments.protocol}-full" if arguments.full else arguments.protocol)
    )


def measured(arguments: argparse.Namespace, cell: Cell) -> Curve:
    """The curve of a cell, from its file or measured in a separate process."""
    path = results(arguments) / f"{cell.slug}.json"
    if not path.exists():
        command = [
            sys.executable,
            *sys.argv,
            "--only",
            json.dumps([cell.data, cell.strategy, cell.seed]),
        ]
        done = subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False, stderr=subprocess.PIPE
        )
        if done.returncode:
            raise SystemExit(f"{cell.slug}:\n{done.stderr.decode()}")
    curve = Curve(" → ".join(cell.data), cell.strategy, cell.seed, json.loads(path.read_text()))
    print(
        f"{cell.slug}: {' '.join(f'{v:.3f}' for v in curve.iou)} ({curve.seconds:.0f} s)",
        file=sys.stderr,
    )
    return curve


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("protocol", choices=["pool", "product"])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, one thread each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strategies", default="", help="these alone, with commas between")
    parser.add_argument("--full", action="store_true", help="the paper's sizes; for a GPU")
    parser.add_argument("--write", action="store_true", help="put tables and pictures into docs/")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    results(arguments).mkdir(parents=True, exist_ok=True)
    if arguments.only:
        where, name, seed = json.loads(arguments.only)
        run(arguments, Cell(tuple(where), name, seed))
        return
    for name, _ in REAL if not arguments.full else ():
        binned(arguments.data, arguments.work, name, PROTOCOLS["p2"].binning)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        curves = list(pool.map(lambda cell: measured(arguments, cell), cells(arguments)))
    print("\n".join(tables(arguments.protocol, curves)))
    if arguments.write:
        write_page(arguments.protocol, curves)


if __name__ == "__main__":
    main()
