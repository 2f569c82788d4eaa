"""The contract of jobs; every registered kind of job is tested."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib import import_module

import pytest

from napari_emda import registry
from napari_emda.events import Finished, Started
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import Job, jobs, read_job, write_job


@pytest.mark.parametrize("name", jobs.names())
def test_the_kind_in_job_files_is_the_name_in_the_registry(name):
    cls = jobs[name]
    assert cls.model_fields["kind"].default == name == cls.name
    assert cls.noun
    assert cls.__doc__


@pytest.mark.parametrize("name", jobs.names())
def test_a_kind_of_job_is_run_by_a_generator(name):
    run = import_module(jobs[name].work).run
    assert inspect.isgeneratorfunction(run)
    assert len(inspect.signature(run).parameters) == 2


def test_all_kinds_are_registered_without_torch():
    code = (
        "import sys; from napari_emda.project.job_files import jobs; "
        "print(len(jobs.names()), 'torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.split() == [str(len(jobs.names())), "False"], printed.stderr


COUNT = '''
from typing import ClassVar, Literal
from napari_emda.events import Finished, Started
from napari_emda.project.job_files import Job, jobs

@jobs.register("count")
class CountJob(Job):
    """Count the volumes."""
    noun: ClassVar[str] = "count"
    work: ClassVar[str] = "counting"
    kind: Literal["count"] = "count"

def run(job, _):
    yield Started("count", "", "cpu", 0)
    yield Finished("done", f"{job.project} has 2 volumes.")
'''


def test_a_kind_of_another_package_is_one_file(tmp_path, monkeypatch):
    """It is read from a job file and run."""

    class Entry:
        name = "count"
        value = "counting"

        def load(self):
            return import_module("counting")

    (tmp_path / "counting.py").write_text(COUNT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry()])
    monkeypatch.setattr(jobs, "_complete", False)
    monkeypatch.setattr(jobs, "_entries", dict(jobs._entries))
    (tmp_path / "job.json").write_text(json.dumps({"kind": "count", "project": "p"}))
    job = read_job(tmp_path / "job.json")
    assert isinstance(job, Job)
    assert job.noun == "count"
    assert list(execute(job)) == [
        Started("count", "", "cpu", 0),
        Finished("done", "p has 2 volumes."),
    ]
    write_job(job, tmp_path / "again.json")
    assert read_job(tmp_path / "again.json") == job


def test_job_files_of_the_first_version_are_read(tmp_path):
    """As they were written before kinds of jobs were a registry."""
    content = {
        "format": 1,
        "project": "p",
        "kind": "train",
        "method": "ynet",
        "method_settings": {"reconstruction": 0.1},
        "settings": {"steps": 7, "base": 8, "levels": 3, "profile": "test"},
        "start_from": None,
        "resume": None,
    }
    (tmp_path / "job.json").write_text(json.dumps(content))
    job = read_job(tmp_path / "job.json")
    assert job.settings.steps == 7
    assert job.settings.network == "unet"
    assert job.network_settings == {"base_channels": 8, "depth": 3}
