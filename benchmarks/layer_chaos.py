"""Random sequences of actions on layers in a real viewer with the dock; counts what goes wrong.

    xvfb-run -a -s "-screen 0 1366x768x24" python -m benchmarks.layer_chaos RESULTS
    python -m benchmarks.layer_chaos RESULTS --seeds 17:18 --verbose   # replay one
    python -m benchmarks.layer_chaos RESULTS --plain                   # napari alone, to compare

Users rename, remove, move, hide, transpose, save, load, undo, open a second viewer, and close in
the middle, between suggestions, strokes and decisions (see `tests.viewer.chaos`). Each batch of
seeds has a process of its own. A crash of it is counted for the sequence that ran, and the others
go on. RESULTS gets a line per sequence; sequences that it holds already are left out, so that a run
may be interrupted. What goes wrong in plain napari as well is napari's.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks import parser_of

ROOT = Path(__file__).parents[1]
# Sequences per process: starting napari takes as long as some sequences.
BATCH = 25
# Seconds of a sequence after which it counts as hanging, on a busy machine.
LONGEST = 300
# Lines of a crashed process that are kept: its last steps and the stack.
_TAIL = 120
# How a line begins that holds the result of a sequence.
_RESULT = "result "


def run_batch(seeds: list[int], steps: int, *, plain: bool) -> None:
    """Run sequences in this process; prints a line before and after each step."""
    import napari
    from napari._vispy import canvas

    from tests.viewer.chaos.sequence import run

    # napari collects garbage whenever a layer is removed, which would be a third of the time. What
    # it would find is found by Python as well.
    canvas.gc = SimpleNamespace(collect=lambda: None)  # type: ignore[assignment]
    gc.freeze()
    for seed in seeds:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as temporary:
            user, wrong, warned = run(
                seed,
                steps,
                Path(temporary) / "project",
                napari.Viewer,
                plain=plain,
                say=lambda text: print(text, flush=True),
            )
        said = [f"{tone}: {text}" for tone, text in user.said if tone == "error"]
        result = {
            "seed": seed,
            "actions": user.log,
            "wrong": wrong,
            "warned": sorted(set(warned)),
            "said": sorted(set(said)),
            "seconds": round(time.perf_counter() - begun, 1),
        }
        print(_RESULT + json.dumps(result), flush=True)
        del user
        gc.collect()
        gc.freeze()
    # Without the end of the interpreter, in which Qt destroys windows in any order: no user of
    # napari meets it with many windows closed before.
    os._exit(0)


def results(seeds: list[int], options: list[str]) -> Iterator[dict[str, Any]]:
    """The result of each sequence of a batch; a crash ends a process, and the next begins."""
    while seeds:
        command = [sys.executable, "-X", "faulthandler", "-m", "benchmarks.layer_chaos", "-"]
        child = subprocess.Popen(
            [*command, "--here", ",".join(map(str, seeds)), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        said: list[str] = []
        watchdog = _watch(child)
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith(_RESULT):
                watchdog.cancel()
                watchdog = _watch(child)
                result = json.loads(line.removeprefix(_RESULT))
                seeds = [seed for seed in seeds if seed != result["seed"]]
                yield result
                said = []
            else:
                said.append(line.rstrip())
        watchdog.cancel()
        if seeds:
            crash = "\n".join([f"ended with {child.wait()}:", *said[-_TAIL:]])
            yield {"seed": seeds[0], "wrong": [crash], "warned": [], "said": []}
            seeds = seeds[1:]


def _watch(child: subprocess.Popen[str]) -> threading.Timer:
    """A timer that kills a process whose sequence hangs."""
    watchdog = threading.Timer(LONGEST, child.kill)
    watchdog.daemon = True
    watchdog.start()
    return watchdog


def run_all(seeds: list[int], results_path: Path, options: list[str]) -> None:
    """Run the sequences that the file lacks."""
    lines = results_path.read_text().splitlines() if results_path.exists() else []
    done = {json.loads(line)["seed"] for line in lines}
    missing = [seed for seed in seeds if seed not in done]
    for k in range(0, len(missing), BATCH):
        for result in results(missing[k : k + BATCH], options):
            with results_path.open("a") as file:
                file.write(json.dumps(result) + "\n")
            seconds = result.get("seconds", "-")
            first = result["wrong"][0].rstrip().splitlines()[-1] if result["wrong"] else "fine"
            print(f"seed {result['seed']} ({seconds} s): {first}", flush=True)


def report(seeds: list[int], results_path: Path) -> bool:
    """Print how many sequences went wrong, and how; returns whether any did."""
    found = [json.loads(line) for line in results_path.read_text().splitlines()]
    found = [result for result in found if result["seed"] in seeds]
    wrong = [result["seed"] for result in found if result["wrong"]]
    actions = Counter(name for result in found for name in result.get("actions", ()))
    print(f"{len(found)} sequences, {actions.total()} actions; wrong: {wrong or 'none'}")
    for name, count in actions.most_common():
        print(f"  {count:5d} {name}")
    for key in ("wrong", "warned", "said"):
        texts = Counter(text for result in found for text in result[key])
        for text, count in texts.most_common():
            print(f"{key} {count}: {text.rstrip()}")
    return bool(wrong)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("results", type=Path, help="gets a line per sequence")
    parser.add_argument("--seeds", default="0:500", help="first and end, as 0:500; or 3,17,20")
    parser.add_argument("--steps", type=int, default=14, help="most actions in a sequence")
    parser.add_argument("--plain", action="store_true", help="napari without the dock")
    parser.add_argument("--verbose", action="store_true", help="print each step; in this process")
    parser.add_argument("--here", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    seeds = _seeds(options.here or options.seeds)
    if options.here or options.verbose:
        run_batch(seeds, options.steps, plain=options.plain)
    passed_on = ["--steps", str(options.steps), *(["--plain"] if options.plain else [])]
    run_all(seeds, options.results, passed_on)
    sys.exit(report(seeds, options.results))


def _seeds(text: str) -> list[int]:
    if ":" in text:
        first, end = map(int, text.split(":"))
        return list(range(first, end))
    return [int(seed) for seed in text.split(",")]


if __name__ == "__main__":
    main()
