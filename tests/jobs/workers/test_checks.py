"""What cannot be used is refused in one sentence, before anything is written."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import signal
import sys

import pytest
from distributed import LocalCluster

from napari_emda.errors import JobError, SettingsError
from napari_emda.events import result_of
from napari_emda.jobs.workers import checks, on_worker
from napari_emda.jobs.workers.cluster_file import read_cluster_file
from napari_emda.jobs.workers.pool import Workers, open_workers
from napari_emda.settings.where import Where
from tests.cli.calling import answer, call, listing


class Answers:
    """A client whose workers answer what a test says, and else what this process does."""

    def __init__(self, **answers):
        self.answers = answers

    def run(self, function, *arguments, on_error="raise"):
        name = "_".join([function.__name__, *arguments[:1]]) if arguments else function.__name__
        value = self.answers.get(name.replace("-", "_"), None)
        return {"tcp://node:1": function(*arguments) if value is None else value}


def test_workers_like_this_process_are_taken(folder):
    checks.check_workers(Answers(), folder)
    # What is sent between two versions that differ in the last number is understood.
    major, minor, _ = platform.python_version().split(".", 2)
    checks.check_workers(Answers(python_version=f"{major}.{minor}.99"), folder)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"python_version": "3.9.1"}, "has Python 3.9 instead of"),
        ({"version_distributed": "2020.1"}, "has dask 2020.1 instead of"),
        ({"version_napari_emda": "0.0.1"}, "has napari-emda 0.0.1 instead of"),
        (
            {"version_napari_emda": importlib.metadata.PackageNotFoundError("napari-emda")},
            "has no napari-emda: install",
        ),
    ],
)
def test_a_worker_of_another_version_is_refused(answers, said, folder):
    with pytest.raises(JobError, match=f"^The worker tcp://node:1 {said}"):
        checks.check_workers(Answers(**answers), folder)


@pytest.mark.parametrize("seen", [b"", b"{}"])
def test_a_worker_must_see_the_same_project(seen, folder, monkeypatch):
    client = Answers(**{f"seen_of_{folder}".replace("-", "_"): seen})
    before = listing(folder)
    with pytest.raises(JobError, match=r"node:1 does not see the project .*share"):
        checks.check_workers(client, folder)
    assert listing(folder) == before


def test_where_no_scheduler_is_one_is_asked_for(monkeypatch, folder):
    monkeypatch.setattr(checks, "_ANSWER", "100ms")
    for address in ("tcp://127.0.0.1:9", "nonsense://a", "127.0.0.1:0"):
        with (
            pytest.raises(
                SettingsError, match=r"No scheduler answers at .*dask scheduler"
            ) as error,
            open_workers(Where(scheduler=address), folder),
        ):
            pass
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("address", ["nonsense", "tcp://server", "http://server:8787"])
def test_what_is_no_address_begins_no_client(address, folder, monkeypatch):
    begun = []
    monkeypatch.setattr(checks, "Client", lambda *_, **__: begun.append(1))
    with (
        pytest.raises(SettingsError, match="No scheduler answers at"),
        open_workers(Where(scheduler=address), folder),
    ):
        pass
    # dask tells on standard error of clients that are begun in vain.
    assert begun == []


def test_without_dask_it_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SettingsError, match="cluster"), open_workers(Where(workers=2), folder):
        pass


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("system: slurm\nqueu: gpu\n", "has no key 'queu'. Did you mean 'queue'?"),
        ("system: slrm\n", "names the system 'slrm'. Did you mean 'slurm'?"),
        ("queue: gpu\n", "does not name its queue"),
        ("- 1\n", "does not name its queue"),
        ("system: [\n", "is not YAML"),
        ("system: !!python/object/apply:os.getcwd []\n", "is not YAML"),
        ("system: slurm\nn_workers: 4\n", "has no key 'n_workers'"),
        ("system: [slurm]\n", "names the system ''"),
        ("[" * 5000, "is not YAML"),
        # Letter by letter, it would become the directives of the job.
        ("system: slurm\njob_extra_directives: --gres=gpu:1\n", "write a list of texts"),
        ("system: slurm\njob_script_prologue: [{a: b}]\n", "write a list of texts"),
        ("system: slurm\ncores: 0\n", "write a number from 1"),
        ("system: slurm\nprocesses: many\n", "write a number from 1"),
        ("system: slurm\nmemory: 32\n", "write a size with its unit"),
        ("system: slurm\nqueue: [a]\n", "write a text or a number"),
        ("system: slurm\nscheduler_options: a\n", "write pairs"),
        ("system: slurm\nshared_temp_directory: /no/such\n", "write the path of a folder"),
        ("system: slurm\ncores: 4\n", "There is no 'sbatch' on this computer"),
    ],
)
def test_a_wrong_cluster_file_is_refused(text, said, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "cluster.yaml").write_text(text)
    with pytest.raises(SettingsError, match=said.replace("?", r"\?")) as error:
        read_cluster_file(tmp_path / "cluster.yaml")
    assert "\n" not in str(error.value)


def test_values_of_a_cluster_file_are_what_they_look_like(tmp_path, monkeypatch):
    """In YAML 1.1, 12:00:00 is 43200, which Slurm takes for minutes, and on is true."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "sbatch").touch(mode=0o755)
    text = (
        "system: slurm\nwalltime: 12:00:00\nqueue: on\naccount: 2026-11-27\nproject: 0123\n"
        "job_name: y\ncores: 8\nlog_directory: ~\ndeath_timeout: 1.5\nheader_skip: [-1:30]\n"
    )
    (tmp_path / "cluster.yaml").write_text(text)
    assert read_cluster_file(tmp_path / "cluster.yaml").options == {
        "walltime": "12:00:00",
        "queue": "on",
        "account": "2026-11-27",
        "project": "0123",
        "job_name": "y",
        "cores": 8,
        "log_directory": None,
        "death_timeout": 1.5,
        "header_skip": ["-1:30"],
    }


def test_a_cluster_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        read_cluster_file(tmp_path / "cluster.yaml")


def test_workers_of_one_computer_take_turns_with_its_gpus(monkeypatch):
    chosen = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    for name in (0, 1, 2, "gpu-1", "SLURMCluster-7-0", "tcp://10.0.0.1:4001", "a"):
        on_worker.choose_gpu(name)
    assert chosen == [0, 1, 0, 1, 0]


def test_ctrl_c_stays_what_it_was(monkeypatch):
    """dask-jobqueue takes it over when it is imported."""
    before = signal.getsignal(signal.SIGINT)
    names = [name for name in sys.modules if name.startswith("dask_jobqueue")]
    for name in [*names, "napari_emda.jobs.workers.cluster_file"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.import_module("napari_emda.jobs.workers.cluster_file")
    assert "dask_jobqueue.runner" in sys.modules
    assert signal.getsignal(signal.SIGINT) is before


def test_if_a_worker_dies_while_all_are_asked_they_are_asked_again(folder):
    class Client:
        cluster = None

        def nthreads(self):
            return {"tcp://node:1": 1}

    asked = []

    def ask(times):
        asked.append(times)
        if len(asked) < times:
            raise OSError("Stream is closed")
        return "answer"

    workers = Workers(Client(), Where(workers=2), folder)
    assert result_of(workers.answered(lambda: ask(3))) == "answer"
    asked.clear()
    with pytest.raises(JobError, match="again and again"):
        result_of(workers.answered(lambda: ask(99)))


def test_the_command_says_that_workers_can_be_used(folder, scheduler):
    result = answer("check-workers", folder, "--scheduler", scheduler)
    assert result["workers"] == 2
    assert result["text"] == "2 workers answer, see this project and have the same versions."


def test_a_scheduler_without_workers_is_said(folder):
    before = listing(folder)
    with LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        status, _, said = call("check-workers", folder, "--scheduler", cluster.scheduler_address)
    assert status == 2
    assert "has no workers yet: start one (dask worker" in said
    assert listing(folder) == before
