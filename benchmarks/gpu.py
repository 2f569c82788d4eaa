"""How well a GPU is used, from a zarr on disk to a result on disk; under ten minutes on one card.

    python -m benchmarks.gpu --out gpu.md                 # the phantom alone; nothing is downloaded
    python -m benchmarks.gpu --data DATA --out gpu.md     # also VNC <-> Lucchi
    python -m benchmarks.gpu --device cpu --tiny          # only tests that it runs

DATA holds vnc/ and lucchi/, see docs/benchmarks.md. What is measured:

* *training*: optimiser steps a second of the product's loop, against the bare step of the same
  network on a batch that lies on the device (same number format, layout, loss and optimiser);
* *prediction*: voxels a second of the product's `predict`, against the bare network and softmax on
  one of its blocks;
* *whole runs*: minutes and IoU of `auto`, of `source_only` beside it, and of a round of annotation.

Each part runs in a process of its own, so that its peak memory is its own. Parts are done in order
of importance until the minutes are over; the table names those that no longer fit. Each row is
printed, and written to ``--out``, as soon as it is known. All that was measured goes to a JSON file
beside it.
"""

from __future__ import annotations

import json
import multiprocessing
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import gpu_parts, parser_of
from benchmarks.gpu_parts import Numbers, Setting

SPAN = 15.0
"""Seconds that a part without an estimate of its own is thought to take."""
AROUND = 25.0
"""Seconds of a whole run that are not its steps, until one was measured: looks at the target,
checkpoints, predicting, scoring ..."""
RESERVE = 1.1
"""A whole run takes so many times what its steps alone would at the rate that was measured."""
BEGINNING = 120.0
"""Seconds for making the data, however few minutes there are."""
SLOW = 20.0
"""Steps a second where none were measured."""
FORK = "forkserver"
SPAWN = "spawn"
PRELOADED = ["scipy.stats", "napari_emda.jobs.execute"]
"""What takes long to import."""
TABLES = {
    "training": (
        "Training, from zarr to steps",
        "method, profile | patches a step | bare, steps/s | `fit`, steps/s | share | GPU busy "
        "| waiting for a batch | GPU memory, GiB | host memory, GiB",
    ),
    "inside": (
        "Inside a step",
        "method, profile | bare step, ms | step on one batch, ms "
        "| drawing a batch, alone / in the loop, ms "
        "| to the device and augmented, ms | the loop: wait / to the device / step / rest "
        "| kernels a step | a kernel at work | synchronisations a step",
    ),
    "prediction": (
        "Prediction, from zarr to zarr",
        "profile | block | bare, Mvoxel/s | bare, 4 blocks at once "
        "| `predict`, Mvoxel/s | share | GPU busy | waiting for a block "
        "| reading / writing in their threads, Mvoxel/s | blocks replayed from a recording "
        "| synchronisations a block "
        "| GPU memory, GiB | host memory, GiB",
    ),
    "whole": (
        "Whole runs",
        "what | profile, steps | minutes | foreground IoU "
        "| seconds: suggest / prepare / steps / looks / saves / choosing / predict / score "
        "| GPU busy | GPU memory, GiB | host memory, GiB",
    ),
}


@dataclass(frozen=True)
class Part:
    """One row of a table.

    Attributes:
        name: in the first column.
        table: key of `TABLES`.
        function: of `gpu_parts`.
        arguments: of that.
        estimate: seconds that it will take, from what is known by then.
        reason: why it is left out; empty where it is not.
        needs: another part without whose result it cannot be done.
    """

    name: str
    table: str
    function: str
    arguments: dict[str, Any]
    estimate: Callable[[dict[str, Numbers]], float]
    reason: str = ""
    needs: str = ""


class Page:
    """Lines that are printed, and written to a file, at once."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")

    def write(self, *lines: str) -> None:
        """Print lines, and append them to the file."""
        for line in lines:
            print(line, flush=True)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write("".join(f"{line}\n" for line in lines))

    def open_table(self, table: str) -> None:
        """The title and the names of the columns."""
        title, columns = TABLES[table]
        self.write("", f"## {title}", "", f"| {columns} |", "|" + "---|" * (columns.count("|") + 1))

    def row(self, table: str, cells: Sequence[str]) -> None:
        """A row; cells that are missing at its end are left empty."""
        missing = TABLES[table][1].count("|") + 1 - len(cells)
        self.write(f"| {' | '.join([*cells, *[''] * missing])} |")


# -- a process for each part ---------------------------------------------------------------------


def _child(connection: Connection, function: str, setting: Setting, arguments: Numbers) -> None:
    try:
        numbers = getattr(gpu_parts, function)(
            setting, lambda text: connection.send(("doing", text)), **arguments
        )
        connection.send(("done", numbers))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the parent says what went wrong
        traceback.print_exc()
        connection.send(("failed", f"{type(error).__name__}: {error}".split("\n")[0]))


def carry_out(
    function: str, setting: Setting, arguments: Numbers, seconds: float, start: str = FORK
) -> tuple[str, Any]:
    """Do a part in a new process; returns ``done`` and its numbers, or ``failed`` and the reason.

    Args:
        function: of `gpu_parts`.
        setting: what all parts share.
        arguments: of the function.
        seconds: after which the process is ended.
        start: `FORK` from a process that has imported torch, which saves some five seconds, or
            `SPAWN`. A forked process can use the GPU only if the first one has not touched it.
    """
    context: Any = multiprocessing.get_context(start)
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, function, setting, arguments))
    process.daemon = True
    process.start()
    theirs.close()
    end = time.monotonic() + seconds
    last_message = "it had not begun"
    while ours.poll(max(0.0, end - time.monotonic())):
        try:
            kind, what = ours.recv()
        except EOFError:
            return "failed", f"its process ended (exit status {_ended(process)}); {last_message}"
        if kind != "doing":
            process.join()
            return kind, what
        last_message = what
    process.terminate()
    _ended(process)
    return "failed", f"stopped when the minutes were over; {last_message}"


def _ended(process: Any) -> int | None:
    process.join(5)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


# -- rows ----------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 1) -> str:
    """Text of a number; ``n/a`` where there is none, as of a GPU where there is no GPU."""
    return "n/a" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.0f} %"


def milliseconds(value: float | None) -> str:
    return number(None if value is None else 1000 * value, 2)


def memory(numbers: Numbers) -> list[str]:
    return [number(numbers["device_memory"], 2), number(numbers["host_memory"], 2)]


def training_row(numbers: Numbers) -> list[str]:
    return [
        f"{numbers['batch']} × {numbers['patch']}²",
        number(numbers["bare"]),
        f"{number(numbers['fit'])} ({numbers['steps']} steps)",
        f"**{numbers['fit'] / numbers['bare']:.2f}**",
        percent(numbers["busy"]),
        percent(numbers["loop"]["wait"]),
        *memory(numbers),
    ]


def inside_row(numbers: Numbers) -> list[str]:
    loop, kernels = numbers["loop"], numbers["kernels"]
    return [
        milliseconds(1 / numbers["bare"]),
        milliseconds(1 / numbers["fixed"]),
        f"{milliseconds(numbers['draw_alone'])} / {milliseconds(numbers['draw_in_loop'])}",
        milliseconds(numbers["to_device"]),
        " / ".join(percent(loop[key]) for key in ("wait", "to_device", "step", "rest")),
        number(kernels.get("count"), 0),
        percent(kernels["seconds"] / kernels["wall"] if kernels else None),
        number(sum(numbers["synchronisations"].values()) if kernels else None),
    ]


def prediction_row(numbers: Numbers) -> list[str]:
    sections, _, rows, columns = numbers["block"]
    return [
        f"{sections} × {rows} × {columns}",
        number(numbers["bare"] / 1e6),
        number(numbers["bare_4"] / 1e6),
        f"{number(numbers['predict'] / 1e6)} ({numbers['times']} × {numbers['voxels'] / 1e6:.1f})",
        f"**{numbers['predict'] / numbers['bare']:.2f}**",
        percent(numbers["busy"]),
        percent(numbers["wait"]),
        f"{number(numbers['read'] / 1e6)} / {number(numbers['write'] / 1e6)}",
        percent(numbers["replayed"]),
        number(sum(numbers["synchronisations"].values()) if numbers["kernels"] else None),
        *memory(numbers),
    ]


def whole_row(numbers: Numbers) -> list[str]:
    keys = ("suggest", "prepare", "steps", "looks", "saves", "choosing", "predict", "score")
    phases = numbers["phases"]
    return [
        f"{numbers['profile']}, {numbers['steps']}",
        f"**{numbers['minutes']:.2f}**",
        f"**{numbers['iou']:.3f}**",
        " / ".join(number(phases[key]) if key in phases else "–" for key in keys),
        percent(numbers["busy"]),
        *memory(numbers),
    ]


ROWS = {"training": training_row, "prediction": prediction_row, "whole": whole_row}


# -- the parts, in the order of their weight -----------------------------------------------------


def parts(setting: Setting, steps: int) -> list[Part]:
    def run_of(method: str, profile: str, count: int) -> Callable[[dict[str, Numbers]], float]:
        """As long as so many steps take at the rate that was measured, and what comes on top."""

        def estimate(measured: dict[str, Numbers]) -> float:
            rate = float(measured.get(f"{method}, {profile}", {}).get("fit", SLOW))
            phases = [row["phases"] for row in measured.values() if row.get("table") == "whole"]
            around = max((sum(p.values()) - p["steps"] for p in phases), default=AROUND)
            return float(around + RESERVE * count / rate)

        return estimate

    rows = [
        Part(
            f"{method}, {profile}",
            "training",
            "training_rate",
            {"method": method, "profile": profile},
            lambda measured: SPAN,
        )
        for profile in ("fast", "standard")
        for method in ("source_only", "auto")
    ]
    rows.append(
        Part(
            "auto, standard, each patch read from the disk",
            "training",
            "training_rate",
            {"method": "auto", "profile": "standard", "lazy": True},
            lambda measured: SPAN,
        )
    )
    rows.append(
        Part(
            "auto, standard, no step recorded",
            "training",
            "training_rate",
            {"method": "auto", "profile": "standard", "recorded": False},
            lambda measured: SPAN,
        )
    )
    for profile, averaged in (("fast", False), ("standard", False), ("standard", True)):
        name = f"{profile}, averaged over flips and sections" if averaged else profile
        arguments = {"profile": profile, "averaged": averaged}
        rows.append(Part(name, "prediction", "prediction_rate", arguments, lambda measured: SPAN))
    reason = "" if setting.data else "no folder of real volumes was given (--data)"
    for source, target, method in (
        ("vnc", "lucchi", "auto"),
        ("vnc", "lucchi", "source_only"),
        ("lucchi", "vnc", "auto"),
    ):
        arguments = {"source": source, "target": target, "method": method, "steps": steps}
        estimate = run_of(method, "standard", steps)
        name = f"{source} → {target}, {method}"
        rows.append(Part(name, "whole", "real_run", arguments, estimate, reason))
    size = setting.size
    first = Part("phantom, auto", "whole", "phantom_run", {}, run_of("auto", "fast", size.steps))
    rows.append(first)
    count, patches, side = size.round
    rows.append(
        Part(
            f"phantom, a round: {patches} patches of {side}², finetune",
            "whole",
            "annotation_round",
            {},
            run_of("auto", "fast", count),
            needs=first.name,
        )
    )
    return rows


class Run:
    """Does the parts within the minutes, and writes the page."""

    def __init__(self, setting: Setting, minutes: float, out: Path | None) -> None:
        self.setting, self.page = setting, Page(out)
        self.end = time.monotonic() + 60 * minutes
        self.minutes = minutes
        self.measured: dict[str, Numbers] = {}
        self.failed = False
        self._start = FORK
        self._json = None if out is None else out.with_suffix(".json")

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def _do(self, function: str, arguments: Numbers, least: float = 0.0) -> tuple[str, Any]:
        seconds = max(least, self.left)
        kind, what = carry_out(function, self.setting, arguments, seconds, self._start)
        self.failed = self.failed or kind == "failed"
        return kind, what

    def begin(self, command: str) -> bool:
        """The head of the page, and the data; false where there is nothing to go on with."""
        kind, found = self._do("machine", {}, BEGINNING)
        if kind == "failed":
            print(f"forked processes cannot be used: {found}", file=sys.stderr, flush=True)
            self._start = SPAWN
            self.failed = False
            kind, found = self._do("machine", {}, BEGINNING)
        if kind == "failed":
            self.page.write(f"The machine cannot be used: {found}.")
            return False
        self.page.write(
            f"GPU: {found['card']}, driver {found['driver']}, {found['precision']}; "
            f"torch {found['torch']}, Python {found['python']}; "
            f"{found['processor']}, {found['cores']} cores. "
            f"{date.today():%d %B %Y}, seed {self.setting.seed}, {self.minutes:g} minutes."
            + (" Tiny: the numbers mean nothing." if self.setting.size is gpu_parts.TINY else ""),
            "",
            "```console",
            f"$ {command}",
            "```",
        )
        self._keep("machine", found)
        kind, found = self._do("make_data", {}, BEGINNING)
        if kind == "failed":
            self.page.write(f"The data cannot be made: {found}.")
        else:
            print(f"data made in {found['seconds']:.0f} s", file=sys.stderr, flush=True)
        return kind == "done"

    def table(self, name: str, rows: list[Part]) -> None:
        """Do parts, and write a row for each."""
        self.page.open_table(name)
        for part in rows:
            self.page.row(name, [part.name, *self._cells(part)])

    def _cells(self, part: Part) -> list[str]:
        needed, left = part.estimate(self.measured), self.left
        reason = part.reason
        if not reason and part.needs and part.needs not in self.measured:
            reason = f"goes on from '{part.needs}'"
        if not reason and needed > left:
            reason = f"needs about {needed / 60:.1f} min, {max(0, left) / 60:.1f} min are left"
        if reason:
            return [f"skipped: {reason}"]
        began = time.monotonic()
        kind, numbers = self._do(part.function, part.arguments)
        if kind == "failed":
            return [f"failed: {numbers}"]
        took = time.monotonic() - began
        print(f"{part.name}: {took:.0f} s, {self.left:.0f} s left", file=sys.stderr, flush=True)
        self._keep(part.name, {**numbers, "took": took, "table": part.table})
        return ROWS[part.table](numbers)

    def _keep(self, name: str, numbers: Numbers) -> None:
        self.measured[name] = numbers
        if self._json is not None:
            self._json.write_text(json.dumps(self.measured, indent=1))

    def inside(self, rows: list[Part]) -> None:
        """What else was measured of training, and where the processor waits for the GPU."""
        self.page.open_table("inside")
        for part in rows:
            numbers = self.measured.get(part.name)
            cells = inside_row(numbers) if numbers else ["not measured"]
            self.page.row("inside", [part.name, *cells])
        self.sites(rows, "step")

    def sites(self, rows: list[Part], unit: str) -> None:
        """Which lines make the processor wait for the GPU, and how often in a step or block."""
        for part in rows:
            found = self.measured.get(part.name, {}).get("synchronisations", {})
            if found:
                listed = ", ".join(f"`{site}` {times:.2f}" for site, times in found.items())
                self.page.write("", f"Synchronisations a {unit}, {part.name}: {listed}.")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--data", type=Path, help="a folder with vnc/ and lucchi/")
    parser.add_argument("--steps", type=int, default=2000, help="of a run on real volumes")
    parser.add_argument(
        "--half-source",
        action="store_true",
        help="train on the upper half of a real source; by default on all of it",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the phantom and of all training")
    parser.add_argument("--minutes", type=float, default=9.0, help="what no longer fits is skipped")
    parser.add_argument(
        "--out", type=Path, help="a Markdown file; the numbers go beside it as JSON"
    )
    parser.add_argument("--work", type=Path, help="a folder for data and runs; by default for now")
    parser.add_argument(
        "--tables",
        nargs="+",
        choices=[name for name in TABLES if name != "inside"],
        default=["training", "prediction", "whole"],
    )
    parser.add_argument("--tiny", action="store_true", help="a run of seconds, to see that it runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emda-gpu-") as temporary:
        setting = Setting(
            work=options.work or Path(temporary),
            device=options.device,
            seed=options.seed,
            size=gpu_parts.TINY if options.tiny else gpu_parts.Size(),
            data=options.data,
            whole_source=not options.half_source,
        )
        run = Run(setting, options.minutes, options.out)
        if run.begin(shlex.join(["python", *sys.argv])):
            rows = {
                table: [part for part in parts(setting, options.steps) if part.table == table]
                for table in options.tables
            }
            for table, listed in rows.items():
                run.table(table, listed)
                if table == "training":
                    run.inside(listed)
                elif table == "prediction":
                    run.sites(listed, "block")
            run.page.write("", f"All in {options.minutes - run.left / 60:.1f} minutes.")
    sys.exit(int(run.failed))


if __name__ == "__main__":
    main()
