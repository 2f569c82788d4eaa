"""What commands cost on a volume that is much larger than what they are asked to do.

The volume is virtual: its chunks are hard links to a few real ones, of the phantom's target. Each
step is a command in a process of its own. Wall time depends on what else the machine does, CPU time
hardly. Results are kept in the folder: a benchmark that was stopped goes on with the next step.

    python -m benchmarks.scale WORK --sections 1000 --side 8192
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import tifffile
import zarr

from benchmarks import parser_of
from napari_emda.data.coverage import Coverage
from napari_emda.project.project import Project
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.synthetic.phantom import SPACING, phantom

_CHUNK = 512
_REAL_SECTIONS = 4


def virtual_volume(path: Path, sections: int, side: int) -> None:
    """Make a zarr volume of hard links to the chunks of a few sections of 1024 x 1024 pixels."""
    real = path.with_name("real.zarr")
    image, _ = phantom((_REAL_SECTIONS, 2 * _CHUNK, 2 * _CHUNK), "target", 1)
    chunks = (1, _CHUNK, _CHUNK)
    zarr.create_array(real, data=image, chunks=chunks, overwrite=True)
    zarr.create_array(
        path, shape=(sections, side, side), dtype="uint8", chunks=chunks, overwrite=True
    )
    for z in range(sections):
        for y in range(side // _CHUNK):
            row = path / "c" / str(z) / str(y)
            row.mkdir(parents=True, exist_ok=True)
            for x in range(side // _CHUNK):
                source = real / "c" / str(z % _REAL_SECTIONS) / str(y % 2) / str(x % 2)
                os.link(source, row / str(x))


def measured(*arguments: object) -> dict[str, Any]:
    """Run a command: its seconds, CPU seconds, peak memory in MiB, and the last line it prints."""
    command = [sys.executable, "-m", "napari_emda", *map(str, arguments)]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "cpu": round(usage.ru_utime + usage.ru_stime, 1),
        "peak": round(usage.ru_maxrss / 1024),
        "result": json.loads(out.splitlines()[-1]),
    }


def predicted(project: Path) -> Coverage:
    """The part of the target that the newest run has predicted."""
    opened = Project.open(project)
    return StoredPrediction(opened.run(), "target").predicted


def files_in(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sections", type=int, default=200)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--voxels", type=int, default=130, help="the setting of suggest")
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "scale.json"
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    target = work / "target.zarr"
    project = work / "project"
    image, labels = phantom((8, 512, 512), "source", 0)
    tifffile.imwrite(work / "source.tif", image)
    tifffile.imwrite(work / "labels.tif", labels)
    if not target.exists():
        virtual_volume(target, options.sections, options.side)
    spacings = ("--spacing", *SPACING, "--target-spacing", *SPACING)
    # A thousandth of the volume: rows of one section, in whole chunks.
    rows = -(-options.sections * options.side // 1000 // _CHUNK) * _CHUNK
    middle = options.sections // 2
    box = f"{middle}:{middle + 1},0:{min(rows, options.side)},:"
    voxels = f"voxels={options.voxels}"
    random_patches = ("--strategy", "random", "--run", "001-source_only")
    pair = ("--source", work / "source.tif", work / "labels.tif", "--target", target)
    steps: dict[str, tuple[object, ...]] = {
        "new": ("new", project, *pair, *spacings),
        "train, 20 steps": ("train", project, "--method", "source_only", "--steps", 20),
        "suggest 10, random": ("suggest", project, "--count", 10, *random_patches),
        "suggest 10, entropy": ("suggest", project, "--count", 10, "--set", voxels),
        "suggest 10 again": ("suggest", project, "--count", 10, "--set", voxels),
        "predict --box, 1/1000": ("predict", project, "--box", box),
        "export --box of it": (
            *("export", project, "--what", "mask", "--to", work / "mask.zarr"),
            *("--box", box, "--overwrite"),
        ),
    }
    print("| command | seconds | CPU seconds | peak, MiB | newly predicted, Mvoxel | files |")
    print("|---|---|---|---|---|---|")
    before = 0.0
    for name, arguments in steps.items():
        if name not in results:
            row = measured(*arguments, "--json")
            has_run = (project / "runs").exists() and any((project / "runs").iterdir())
            share = predicted(project).share if has_run else 0.0
            row["predicted"] = round(share * options.sections * options.side**2 / 1e6, 1)
            row["files"] = files_in(project)
            results[name] = row
            kept.write_text(json.dumps(results, indent=1))
        row = results[name]
        new = round(row["predicted"] - before, 1)
        before = row["predicted"]
        cells = (name, row["seconds"], row["cpu"], row["peak"], new, row["files"])
        print("|", " | ".join(map(str, cells)), "|", flush=True)


if __name__ == "__main__":
    main()
