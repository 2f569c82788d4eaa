"""The benchmark of the viewer goes through the whole work, here with children that do nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOBS = {"Start", "Suggest patches", "Retrain", "Predict", "Export"}


@pytest.mark.slow  # measures; tests/viewer goes through the same work
def test_every_step_has_its_row(qapp):
    command = [sys.executable, "-m", "benchmarks.viewer", "--fake", "--steps", "20", "--side", "96"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if "|" in line]
    columns = rows[0]
    steps = {row[0]: dict(zip(columns[1:], row[1:], strict=True)) for row in rows[2:]}
    assert {
        "open the dock",
        "Use these layers",
        "open a patch (N)",
        "accept (K)",
        "undo (U)",
    } <= set(steps)
    number = re.compile(r"\d+\.\d\d")
    assert all(number.fullmatch(step["longest freeze (s)"]) for step in steps.values())
    for name in JOBS:
        assert number.fullmatch(steps[name]["first sign (s)"])
        assert number.fullmatch(steps[name]["first result (s)"])
