"""The benchmark of a GPU runs without one, and its page says what was measured and what was not."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile

from napari_emda.synthetic.phantom import phantom

ROOT = Path(__file__).parents[2]
SHAPE = (3, 192, 64)
TRAINED = [
    f"{method}, {profile}" for profile in ("fast", "standard") for method in ("source_only", "auto")
]
TRAINED += ["auto, standard, each patch read from the disk", "auto, standard, no step recorded"]
PREDICTED = ["fast", "standard", "standard, averaged over flips and sections"]
REAL = ["vnc → lucchi, auto", "vnc → lucchi, source_only", "lucchi → vnc, auto"]
PHANTOM = ["phantom, auto", "phantom, a round: 3 patches of 32², finetune"]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import gpu

    return gpu


def volumes(folder):
    """VNC and Lucchi as the benchmark looks for them, but drawn."""
    names = {"vnc": ("image", "mitochondria"), "lucchi": ("image_every4", "mitochondria_every4")}
    for (name, files), domain in zip(names.items(), ("source", "target"), strict=True):
        (folder / name).mkdir(parents=True)
        for file, array in zip(files, phantom(SHAPE, domain, 0), strict=True):
            tifffile.imwrite(folder / name / f"{file}.tif", array, photometric="minisblack")
    return folder


def tables(page):
    """Cells by the row's name, by the title of the table."""
    found = {}
    for block in page.split("\n## ")[1:]:
        lines = [line for line in block.splitlines() if line.startswith("|")]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        assert len({len(row) for row in rows}) == 1, "every row has a cell for every column"
        found[block.splitlines()[0]] = {row[0]: row[1:] for row in rows[2:]}
    return found


def numbers_in(cells):
    return [float(text) for cell in cells for text in re.findall(r"-?(?:\d+\.?\d*|inf|nan)", cell)]


@pytest.mark.slow  # measures; what the page makes of measurements is tested below
def test_a_tiny_run_fills_every_row_with_finite_numbers(tmp_path):
    page = tmp_path / "page" / "gpu.md"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--tiny", "--steps", "4"]
    command += ["--data", str(volumes(tmp_path / "data")), "--out", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.strip() == done.stdout.strip()
    found = tables(text)
    assert list(found) == [
        "Training, from zarr to steps",
        "Inside a step",
        "Prediction, from zarr to zarr",
        "Whole runs",
    ]
    assert [list(rows) for rows in found.values()] == [TRAINED, TRAINED, PREDICTED, REAL + PHANTOM]
    for rows in found.values():
        for name, cells in rows.items():
            values = numbers_in(cells)
            assert len(values) > 2 and all(map(math.isfinite, values)), (name, cells)
            assert not any("skipped" in cell or "failed" in cell for cell in cells), (name, cells)
    measured = json.loads(page.with_suffix(".json").read_text())
    assert set(measured) == {"machine", *TRAINED, *PREDICTED, *REAL, *PHANTOM}
    for name in TRAINED:
        assert sum(measured[name]["loop"].values()) == pytest.approx(1)
        assert measured[name]["steps"] > 0 and measured[name]["draw_in_loop"] > 0
    for name in REAL + PHANTOM:
        assert 0 <= measured[name]["iou"] <= 1
        assert min(measured[name]["phases"].values()) >= 0
    assert measured[PHANTOM[1]]["patches"] == 3


def test_what_does_not_fit_the_minutes_or_has_no_data_is_named(gpu, tmp_path, monkeypatch):
    """Every part takes a minute here; a whole run is expected to take longer."""
    now = [0.0]
    done = []

    def carry_out(function, setting, arguments, seconds, start):
        now[0] += 60 * (function not in ("machine", "make_data"))
        done.append(function)
        if function == "prediction_rate":
            return "failed", "OutOfMemoryError: the card is full"
        rate = {"bare": 5.0, "fit": 4.0, "fixed": 5.0, "batch": 8, "patch": 128, "steps": 40}
        rate |= {"draw_alone": 0.1, "draw_in_loop": 0.1, "to_device": None, "busy": None}
        rate |= {"loop": {"wait": 0.0, "to_device": 0.0, "step": 0.5, "rest": 0.5}}
        rate |= {"kernels": {}, "synchronisations": {}, "device_memory": None, "host_memory": 1.0}
        machine = {"card": "none", "driver": "none", "precision": "", "torch": "", "python": ""}
        return "done", {**rate, **machine, "processor": "", "cores": 1, "seconds": 1.0}

    monkeypatch.setattr(gpu, "carry_out", carry_out)
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    command = ["gpu.py", "--minutes", "9.5", "--out", str(tmp_path / "gpu.md")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 1, "a part has failed"
    found = tables((tmp_path / "gpu.md").read_text())
    assert [cells[0] for cells in found["Prediction, from zarr to zarr"].values()] == [
        "failed: OutOfMemoryError: the card is full"
    ] * 3
    whole = found["Whole runs"]
    for name in REAL:
        assert whole[name][0] == "skipped: no folder of real volumes was given (--data)"
    # 1000 steps at 4 a second and what comes on top; half a minute is left after nine parts
    first, second = (whole[name][0] for name in whole if name.startswith("phantom"))
    assert first == "skipped: needs about 5.0 min, 0.5 min are left"
    assert second == "skipped: goes on from 'phantom, auto'"
    assert done.count("training_rate") == len(TRAINED)
    assert "phantom_run" not in done


def test_kernels_that_overlap_count_once(gpu):
    meters = gpu.gpu_parts.meters
    assert meters._union([(0, 2), (1, 3), (1, 2), (5, 6)]) == 4


def test_a_clock_counts_how_long_a_generator_is_waited_for(gpu, monkeypatch):
    meters = gpu.gpu_parts.meters
    now = [0.0]
    monkeypatch.setattr(meters.time, "perf_counter", lambda: now[0])
    closed = []

    def values():
        try:
            for value in range(3):
                now[0] += 2
                yield value
        finally:
            closed.append(True)

    clock = meters.Clock()
    for _ in clock.waited_for("wait", values)():
        now[0] += 5  # the user's own time
    assert clock.seconds["wait"] == 6
    assert clock.mean("wait") == 2
    assert closed
