"""Prediction in several processes: the same bytes, how fast, and what killed workers cost.

The volume is that of `benchmarks.scale`. Each row is a command in a process of its own, with
workers that it starts. Then workers are killed with SIGKILL at random moments, until so many have
died; after each prediction, its bytes are compared with those of one process. What a command has
given up is predicted by the next one.

    python -m benchmarks.workers WORK --sections 32 --side 2048 --kills 20
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import tifffile

from benchmarks import parser_of
from benchmarks.scale import virtual_volume
from napari_emda.synthetic.phantom import SPACING, phantom

# Seconds between two kills, drawn evenly: from while workers still load their model to well into
# their units.
_BETWEEN_KILLS = (1.0, 15.0)
_RUN = "001-source_only"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "napari_emda", *map(str, arguments)]


def make_project(work: Path, sections: int, side: int) -> Path:
    """A project with a model that was trained for some steps."""
    project = work / "project"
    if (project / "runs" / _RUN / "checkpoint.safetensors").exists():
        return project
    image, labels = phantom((8, 512, 512), "source", 0)
    tifffile.imwrite(work / "source.tif", image)
    tifffile.imwrite(work / "labels.tif", labels)
    virtual_volume(work / "target.zarr", sections, side)
    shutil.rmtree(project, ignore_errors=True)
    pair = ("--source", work / "source.tif", work / "labels.tif", "--target", work / "target.zarr")
    spacings = ("--spacing", *SPACING, "--target-spacing", *SPACING)
    subprocess.run(command("new", project, *pair, *spacings), check=True)
    training = ("train", project, "--method", "source_only", "--steps", 20)
    subprocess.run(command(*training, "--profile", "test"), check=True)
    return project


def forget(project: Path) -> None:
    """Remove what is predicted."""
    run = project / "runs" / _RUN
    for name in ("probabilities.zarr", "uncertainty.zarr"):
        shutil.rmtree(run / name, ignore_errors=True)
    (run / "predicted-target.jsonl").unlink(missing_ok=True)


def digest(project: Path) -> str:
    """A hash of all chunks of the prediction."""
    content = hashlib.sha256()
    for name in ("probabilities.zarr", "uncertainty.zarr"):
        folder = project / "runs" / _RUN / name / "target" / "c"
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                content.update(str(path.relative_to(folder)).encode())
                content.update(path.read_bytes())
    return content.hexdigest()


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """The processes that predict for a command."""
    children = process.children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def timed(project: Path, workers: int) -> tuple[float, str]:
    """Predict anew; returns the seconds, and the hash of the result."""
    forget(project)
    began = time.perf_counter()
    completed = complete(project, workers)
    return time.perf_counter() - began, completed


def complete(project: Path, workers: int) -> str:
    """Predict what is missing; returns the hash of the result."""
    predicting = command("predict", project, "--workers", workers)
    subprocess.run(predicting, check=True, stderr=subprocess.DEVNULL)
    return digest(project)


def killed(project: Path, left: int, draw: random.Random) -> tuple[int, int, str]:
    """Predict anew while workers are killed; returns kills, exit status and hash of the result."""
    forget(project)
    process = subprocess.Popen(
        command("predict", project, "--workers", 2), stderr=subprocess.PIPE, text=True
    )
    kills = 0
    due = time.monotonic() + draw.uniform(*_BETWEEN_KILLS)
    while process.poll() is None:
        time.sleep(0.05)
        if kills == left or time.monotonic() < due:
            continue
        due = time.monotonic() + draw.uniform(*_BETWEEN_KILLS)
        try:
            victims = workers_of(psutil.Process(process.pid))
            if victims:
                draw.choice(victims).kill()
                kills += 1
        except psutil.Error:
            # It has ended by itself meanwhile.
            continue
    _, said = process.communicate()
    if process.returncode:
        print(said.splitlines()[-1], flush=True)
    return kills, process.returncode, digest(project)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sections", type=int, default=32)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--workers", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    project = make_project(options.work, options.sections, options.side)
    voxels = options.sections * options.side**2 / 1e6
    print(f"{voxels:.0f} Mvoxel; load {os.getloadavg()[0]:.1f} at the start")
    print("| workers | seconds | same bytes as one process |")
    print("|---|---|---|")
    seconds, expected = timed(project, 1)
    print(f"| 1 | {seconds:.1f} | – |", flush=True)
    for workers in options.workers:
        seconds, found = timed(project, workers)
        print(f"| {workers} | {seconds:.1f} | {found == expected} |", flush=True)
    draw = random.Random(options.seed)
    total = runs = wrong = failed = 0
    while total < options.kills:
        kills, status, found = killed(project, options.kills - total, draw)
        total += kills
        runs += 1
        if status:
            # It has given up a block whose workers died again and again; the rest is there.
            failed += 1
            found = complete(project, 1)
        wrong += found != expected
    print(
        f"{total} workers killed in {runs} predictions: {failed} gave up, {wrong} wrong in the end"
    )


if __name__ == "__main__":
    main()
