"""Random sequences of actions on layers in a real viewer with the dock; counts what goes wrong.

    xvfb-run -a -s "-screen 0 1366x768x24" python -m benchmarks.layer_chaos --seeds 0:500
    python -m benchmarks.layer_chaos --seeds 17:18 --verbose      # replay one
    python -m benchmarks.layer_chaos --seeds 0:500 --plain        # napari alone, for comparison

Users rename, remove, move, hide, transpose, save, load, undo, open a second viewer, and close in
the middle, between suggestions, strokes and decisions (see `tests.viewer.chaos`). Each batch of
seeds has a process of its own, so that a crash of the graphics driver costs one sequence, and is
counted. What fails in plain napari as well is napari's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from benchmarks import parser_of

ROOT = Path(__file__).parents[1]
# Seeds per process: starting napari takes as long as some sequences.
BATCH = 10
# Seconds of a sequence after which it counts as hanging, on a busy machine.
LONGEST = 600
# Lines of a crashed process that are printed: its last steps and the stack.
_TAIL = 80


def run_batch(first: int, stop: int, steps: int, *, plain: bool) -> None:
    """Run sequences in this process; prints a line before and after each step."""
    import napari

    from tests.viewer.chaos import run

    for seed in range(first, stop):
        with tempfile.TemporaryDirectory() as temporary:
            _, wrong = run(
                seed,
                steps,
                Path(temporary) / "project",
                napari.Viewer,
                plain=plain,
                say=lambda text: print(text, flush=True),
            )
        for problem in wrong:
            print("| " + problem.rstrip().replace("\n", "\n| "), flush=True)
        print(f"result {seed} {'wrong' if wrong else 'fine'}", flush=True)
    # Without the end of the interpreter, in which Qt destroys windows in any order: no user of
    # napari meets it with ten windows closed before.
    os._exit(0)


def batches(first: int, stop: int, options: list[str]) -> Iterator[tuple[int, str]]:
    """Each seed and what went wrong with it, empty if nothing; a crash ends a process."""
    while first < stop:
        end = min(first + BATCH, stop)
        command = [sys.executable, "-X", "faulthandler", "-m", "benchmarks.layer_chaos"]
        child = subprocess.Popen(
            [*command, "--here", f"{first}:{end}", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        assert child.stdout is not None
        watchdog = threading.Timer(LONGEST * (end - first), child.kill)
        watchdog.start()
        said: list[str] = []
        for line in child.stdout:
            if line.startswith("result "):
                first = int(line.split()[1]) + 1
                yield first - 1, "" if line.split()[2] == "fine" else "\n".join(said)
                said = []
            else:
                said.append(line.rstrip())
        watchdog.cancel()
        if first < end:
            yield first, "\n".join([f"ended with {child.wait()}:", *said[-_TAIL:]])
            first += 1


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", default="0:500", help="first and end of the seeds, as 0:500")
    parser.add_argument("--steps", type=int, default=25, help="actions in a sequence")
    parser.add_argument("--plain", action="store_true", help="napari without the dock")
    parser.add_argument("--verbose", action="store_true", help="print each step; in this process")
    parser.add_argument("--here", default="", help="used between the processes")
    options = parser.parse_args()
    first, stop = map(int, (options.here or options.seeds).split(":"))
    if options.here or options.verbose:
        run_batch(first, stop, options.steps, plain=options.plain)
        return
    passed_on = ["--steps", str(options.steps), *(["--plain"] if options.plain else [])]
    failures = []
    for seed, wrong in batches(first, stop, passed_on):
        if wrong:
            failures.append(seed)
            print(f"seed {seed} went wrong:\n{wrong}", flush=True)
        else:
            print(f"seed {seed} fine", flush=True)
    print(f"{stop - first} sequences of {options.steps} actions; wrong: {failures or 'none'}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
