"""Every example of the documentation does what the page says."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tomllib
from dataclasses import fields

import pytest

from napari_emda.events import _KINDS
from napari_emda.project.job_files import jobs
from tests.docs.pages import DOCS, Reader, blocks, matches

pytestmark = pytest.mark.timeout(1800)


def test_matching_knows_what_was_not_printed():
    assert matches("a 1\n…\nc …", "note\na   1  \nb\nc 3\n")
    assert matches("", "anything\n")
    assert not matches("a 1\nc", "a 2\nc\n")
    assert not matches("c\na", "a\nc\n")


def test_command_line_shows_every_verb(reader):
    from napari_emda.cli import COMMANDS

    assert {command.split()[1] for command in reader.commands} == COMMANDS.keys() - {"run", "demo"}
    for name in ("mask.tif", "objects.zarr", "objects.csv", "probabilities.tif"):
        assert (reader.folder / name).exists()


def test_project_folder_can_be_read_without_us(reader):
    reader.follow("project-folder.md")


@pytest.mark.parametrize("what", ["a-method", "a-network", "a-strategy", "an-exporter", "a-reader"])
def test_adding(what, reader, environment):
    """The example, installed as pip would leave it, is one like any other."""
    page = f"adding-{what}.md"
    (toml,) = [block.text for block in blocks(page) if block.title == "pyproject.toml"]
    project = tomllib.loads(toml)["project"]
    info = reader.folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n{name} = {module}\n"
        for group, entries in project["entry-points"].items()
        for name, module in entries.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    paths = os.pathsep.join(filter(None, [str(reader.folder), environment.get("PYTHONPATH")]))
    variables = {**environment, "PYTHONPATH": paths}
    Reader(reader.folder, variables, has_packages=True).follow(page)


def test_events_and_job_kinds_are_all_documented():
    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))
    for kind, event in _KINDS.items():
        assert kind in table
        for field in fields(event):
            assert f"`{field.name}`" in table[kind], f"{kind}.{field.name}"
    for name in jobs.names():
        listed = set(re.findall(r"`(\w+)`", table[name]))
        assert listed == set(jobs[name].model_fields) - {"format", "project", "kind"}


SRUN = """#!{python}
# Stands in for SLURM: the first time the job is told to end when it has saved once.
import glob, signal, subprocess, sys, time
from pathlib import Path

child = subprocess.Popen([{python!r}, "-m", "napari_emda", *sys.argv[2:]])
first = not Path("requeued").exists()
pattern = "project/runs/*-ynet/checkpoint.safetensors"
while first and child.poll() is None and not glob.glob(pattern):
    time.sleep(0.05)
if first:
    child.send_signal(signal.SIGTERM)
sys.exit(child.wait())
"""


SRUN_WITHOUT_US = """#!{python}
# Stands in for SLURM and for the training: the first time it has no time to end.
import sys
from pathlib import Path

print(*sys.argv[1:])
run = Path("project/runs/006-ynet")
first = not run.exists()
run.mkdir(parents=True, exist_ok=True)
sys.exit(3 if first else 0)
"""


def write_commands(folder, **texts):
    """Commands of these names in a folder."""
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)


SCONTROL = '#!/bin/bash\necho "$@" > requeued\n'


@pytest.mark.skipif(sys.platform == "win32", reason="a script for bash")
def test_cluster_script_resumes_the_run_that_the_time_limit_ended(tmp_path):
    (script,) = [block.text for block in blocks("command-line.md") if block.title == "train.sbatch"]
    write_commands(
        tmp_path / "bin", srun=SRUN_WITHOUT_US.format(python=sys.executable), scontrol=SCONTROL
    )
    (tmp_path / "project" / "runs" / "005-ynet").mkdir(parents=True)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def submit(restarts: str) -> tuple[int, list[str]]:
        variables = {"PATH": path, "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": restarts}
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=variables, capture_output=True, text=True
        )
        return done.returncode, done.stdout.split()

    status, command = submit("0")
    assert (status, command[:5]) == (3, ["napari-emda", "train", "project", "--method", "ynet"])
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    (tmp_path / "requeued").unlink()
    assert submit("1") == (0, ["napari-emda", "train", "project", "--resume", "006-ynet"])
    assert not (tmp_path / "requeued").exists()


# The script's own part is tested above; that a training ends by a signal with status 3 and resumes
# to the same weights, by tests/jobs/test_worker.py.
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a script for bash")
def test_cluster_script_survives_the_time_limit(reader, environment):
    (script,) = [block.text for block in blocks("command-line.md") if block.title == "train.sbatch"]
    # The signal comes in the second or two between the first checkpoint and the last step.
    small = "--profile test --steps 120 --set patch=32 --set batch=2 --set validations=0"
    small += " --set save_every=40 --set base_channels=8"
    folder = reader.folder
    (folder / "train.sh").write_text(script.replace("--profile standard --steps 20000", small))
    write_commands(folder / "bin", srun=SRUN.format(python=sys.executable), scontrol=SCONTROL)
    path = f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"

    def submit(restarts: str) -> subprocess.CompletedProcess[str]:
        variables = {
            **environment,
            "PATH": path,
            "SLURM_JOB_ID": "7",
            "SLURM_RESTART_COUNT": restarts,
        }
        return subprocess.run(
            ["bash", "train.sh"],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
        )

    first = submit("0")
    assert first.returncode == 3, first.stderr
    assert (folder / "requeued").read_text() == "requeue 7\n"
    second = submit("1")
    assert second.returncode == 0, second.stderr
    assert "step 120 of 120" in second.stderr
    assert len(list(folder.glob("project/runs/*-ynet"))) == 1
