"""A waiting process: it becomes that of a job, and ends with its viewer."""

import json
import subprocess
import sys

import pytest

from napari_emda.events import Failed, from_json
from napari_emda.project.job_files import TrainJob, write_job
from napari_emda.project.job_folder import READY, JobFolder


@pytest.fixture
def waiting():
    process = subprocess.Popen(
        (sys.executable, "-m", "napari_emda.jobs.standby"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
    )
    with process:
        yield process
        process.kill()


def test_it_does_the_job_as_the_program_would(waiting, tmp_path):
    assert waiting.stdout.readline().strip() == READY
    job = tmp_path / "job.json"
    write_job(TrainJob(project=str(tmp_path / "nowhere"), method="auto"), job)
    for line in ({"job": str(job)}, {"command": "attend"}):
        waiting.stdin.write(json.dumps(line) + "\n")
    failed = from_json(waiting.stdout.readline())
    assert isinstance(failed, Failed) and failed.mistake
    assert waiting.wait() == 2
    assert JobFolder(tmp_path).log.exists()


def test_it_ends_with_its_viewer_also_while_it_loads(waiting):
    waiting.stdin.close()
    assert waiting.wait() == 0
