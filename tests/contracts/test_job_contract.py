"""What every kind of job must be, parametrised over the registry."""

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
def test_a_kind_is_called_in_its_files_as_in_the_registry(name):
    cls = jobs[name]
    assert cls.model_fields["kind"].default == name == cls.name
    assert cls.noun
    assert cls.__doc__


@pytest.mark.parametrize("name", jobs.names())
def test_the_work_of_a_kind_is_a_generator_of_events(name):
    run = import_module(jobs[name].work).run
    assert inspect.isgeneratorfunction(run)
    assert len(inspect.signature(run).parameters) == 2


def test_all_kinds_are_known_without_torch():
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
    """Read from a file, carried out, and said in a sentence, without a line of ours."""

    class Entry:
        name, value = "count", "counting"

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
    """As they were written before kinds were a registry."""
    before = {
        "format": 1,
        "project": "p",
        "kind": "train",
        "method": "ynet",
        "method_settings": {"reconstruction": 0.1},
        "settings": {"steps": 7, "base": 8, "levels": 3, "profile": "test"},
        "start_from": None,
        "resume": None,
    }
    (tmp_path / "job.json").write_text(json.dumps(before))
    job = read_job(tmp_path / "job.json")
    assert job.settings.steps == 7
    assert (job.settings.network, job.network_settings) == (
        "unet",
        {"base_channels": 8, "depth": 3},
    )
