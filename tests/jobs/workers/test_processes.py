"""Workers that are processes: killed ones, those of a queue, and what is left of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from distributed.cli.dask_scheduler import main as dask_scheduler
from distributed.cli.dask_worker import main as dask_worker

from napari_emda.errors import SettingsError
from napari_emda.events import Finished, TileDone
from napari_emda.jobs.execute import execute
from napari_emda.jobs.workers.cluster_file import read_cluster_file
from tests.cli.calling import call
from tests.jobs.workers.conftest import prediction, stored

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL, no bash")

PAGE = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text()
# Runs a job at once, in a process group of its own.
SBATCH = """#!/bin/bash
folder=$(dirname "$0")
cp "$1" "$folder/script"
setsid bash "$folder/script" >"$folder/log" 2>&1 </dev/null &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/bash
for id in "$@"; do kill -- -"$id"; done
"""
REFUSES = """#!/bin/bash
echo "sbatch: error: invalid partition specified: gpu" >&2
exit 1
"""


def blocks(language):
    """The code of a language on the page on clusters."""
    parts = PAGE.split(f"```{language}")[1:]
    return [part.split("\n", 1)[1].split("```")[0] for part in parts]


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """The cluster file of the page, and a queue that takes its jobs; its folder is returned."""
    folder = tmp_path / "queue"
    folder.mkdir()
    for name, script in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    (text,) = blocks("yaml")
    (folder / "slurm.yaml").write_text(text.replace("cores: 8", "cores: 1"))
    return folder


# What becomes of the units of a worker that is lost, `test_predict` tests in this process; that one
# who dies while all are asked is asked again, `test_checks`.
@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_none_is_left(folder, expected):
    before = set(multiprocessing.active_children())
    killed = None
    for event in execute(prediction(folder, workers=2)):
        if isinstance(event, TileDone) and killed is None:
            killed, *_ = workers = set(multiprocessing.active_children()) - before
            assert len(workers) == 2
            os.kill(killed.pid, signal.SIGKILL)
    assert killed is not None
    np.testing.assert_array_equal(stored(folder).probabilities[:], expected)
    assert set(multiprocessing.active_children()) == before


def test_a_queue_is_asked_for_workers_and_its_jobs_end(queue, folder, expected):
    job = prediction(folder, cluster=str(queue / "slurm.yaml"))
    events = list(execute(job))
    assert isinstance(events[-1], Finished)
    np.testing.assert_array_equal(stored(folder).probabilities[:], expected)
    # The keys of the connections are gone, and so are the jobs.
    assert not [path for path in folder.iterdir() if path.name.startswith(".workers")]
    left = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "distributed.cli.dask_worker" in (command := process.info["cmdline"] or ())
        and any(str(folder) in part for part in command)
    ]
    _, alive = psutil.wait_procs(left, timeout=60)
    assert not alive


def test_what_a_queue_refuses_is_said(queue, folder):
    (queue / "sbatch").write_text(REFUSES)
    with pytest.raises(SettingsError, match="cannot be used: sbatch: error: invalid partition"):
        list(execute(prediction(folder, cluster=str(queue / "slurm.yaml"))))
    assert not [path for path in folder.iterdir() if path.name.startswith(".workers")]
    assert not stored(folder).header


def test_the_commands_of_the_page_are_those_that_there_are(queue):
    assert read_cluster_file(queue / "slurm.yaml").options["walltime"] == "04:00:00"
    lines = [line.split("#")[0].split() for block in blocks("bash") for line in block.splitlines()]
    seen = set()
    for program, command, *arguments in filter(None, lines):
        given = {argument for argument in arguments if argument.startswith("--")}
        seen.add((program, command))
        if program == "napari-emda":
            _, text, _ = call(command, "--help")
            assert all(option in text for option in given)
        elif program == "dask":
            main = {"scheduler": dask_scheduler, "worker": dask_worker}[command]
            assert given <= {name for option in main.params for name in option.opts}
    assert seen >= {("napari-emda", "predict"), ("dask", "worker"), ("dask", "scheduler")}
