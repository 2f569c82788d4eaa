"""Kills the viewer at random moments of a person's work and counts what is lost.

    python -m benchmarks.kill --moments 20
    python -m benchmarks.kill --work objects --longest 10
    xvfb-run -a python -m benchmarks.kill          # without a screen

With real key presses and mouse strokes, a viewer with the dock, real child processes and a small
phantom goes through suggesting, painting, deciding and retraining, or through objects that are
confirmed, deleted, split and merged, which starts no child. It logs each stroke and decision once
it is done. At a random moment the viewer gets SIGKILL, and every second time its child as well, as
in a power failure. Then the project is opened again and compared with the log.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil

from benchmarks import parser_of
from napari_emda.project.project import Project
from napari_emda.synthetic.phantom import SPACING, phantom
from tests.viewer import loop, object_loop

ROOT = Path(__file__).parents[1]
WORK = {"patches": loop, "objects": object_loop}
SMALL = (
    "--profile",
    "test",
    "--set",
    "patch=32",
    "--set",
    "batch=2",
    "--set",
    "validations=0",
    "--device",
    "cpu",
)


def make(folder: Path, seed: int, work: str) -> None:
    """A project with a model that was trained briefly, or with objects to decide on."""
    shape = (8, 160, 160) if work == "patches" else object_loop.SHAPE
    with Project.create(folder, ("background", "mitochondria")) as project:
        for domain in ("source", "target"):
            image, labels = phantom(shape, domain, seed)
            stored = project.volumes.store(domain, image)
            mask = project.volumes.store(f"{domain}-labels", labels) if domain == "source" else None
            project.volumes.add(stored, domain, labels=mask, name=domain, spacing=SPACING)
        if work == "objects":
            object_loop.make(project)
            return
    command = [sys.executable, "-m", "napari_emda", "train", str(folder), "--steps", "40", *SMALL]
    subprocess.run(command, check=True, capture_output=True)


def kill_once(
    module: str, folder: Path, diary: Path, seed: int, seconds: float, *, child_too: bool
) -> None:
    """Run the work of a module for some time, then kill it."""
    command = [
        sys.executable,
        "-m",
        module,
        str(folder),
        str(diary),
        str(seed),
        "real",
    ]
    viewer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert viewer.stdout is not None
    if viewer.stdout.readline() != "ready\n":
        raise SystemExit("The loop did not start.")
    time.sleep(seconds)
    children = psutil.Process(viewer.pid).children(recursive=True)
    viewer.send_signal(signal.SIGKILL)
    for child in children if child_too else ():
        os.kill(child.pid, signal.SIGKILL)
    viewer.communicate()
    psutil.wait_procs(children, timeout=10)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--work", choices=WORK, default="patches")
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument(
        "--longest", type=float, default=40, help="seconds of the loop in which the moments lie"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    work = WORK[options.work]
    rng = np.random.default_rng(options.seed)
    kinds = Counter[str]()
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "project"
        make(folder, options.seed, options.work)
        for moment, seconds in enumerate(rng.uniform(0, options.longest, options.moments)):
            # The project goes on from kill to kill.
            diary = Path(temporary) / f"diary-{moment}.jsonl"
            child_too = moment % 2 == 1
            kill_once(work.__name__, folder, diary, moment, float(seconds), child_too=child_too)
            decisions, lost = work.check(folder, diary)
            last = decisions[-1]["kind"] if decisions else "nothing"
            kinds.update(decision["kind"] for decision in decisions)
            failures += bool(lost)
            result = (
                f"after {seconds:4.1f} s, {len(decisions):3d} decisions, "
                f"the last: {last}; lost: {lost}"
            )
            print(f"{moment + 1:2d}: {result}", flush=True)
    done = f"{kinds['stroke']} strokes, {kinds['decided']} decisions"
    print(f"{options.moments} kills, {done}; {failures} kills lost something.")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
