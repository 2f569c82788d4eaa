"""A project folder of the first version still opens, predicts the same and can be trained on.

``tests/stored/version_0_project.zip`` was made by the last version with project format 1 and
checkpoint format 2, on the phantom (3 x 64 x 64 voxels), one thread, float32:

* run 001-auto: six steps; predicted, two patches suggested by entropy and annotated from the truth;
* run 002-iic: three steps of three clusters, predicted, cluster 2 named mitochondria;
* run 003-auto: as 001, stopped at its checkpoint of step 3;
* ``expected.safetensors``: the small tensors of 003-auto at step 6, trained without a stop,
  to which 003-auto must come.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from safetensors import safe_open
from typer.testing import CliRunner

from napari_emda.cli import make_app
from napari_emda.project.project import Project

STORED = Path(__file__).parents[1] / "stored" / "version_0_project.zip"


@pytest.fixture
def old(tmp_path):
    """The folder of the old project, beside its images."""
    with zipfile.ZipFile(STORED) as archive:
        archive.extractall(tmp_path)
    return tmp_path / "p"


def emda(*arguments):
    """Run a command; returns its JSON answer."""
    result = CliRunner().invoke(make_app(), [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def probabilities(folder, run):
    return np.asarray(zarr.open_array(folder / "runs" / run / "probabilities.zarr" / "target")[:])


def test_an_old_project_opens_with_all_its_contents(old):
    with Project.open(old) as project:
        assert project.classes == ("background", "mitochondria")
        assert [entry.name for entry in project.volumes.entries] == ["source", "target"]
        assert [region.state for region in project.regions.all()] == ["accepted", "accepted"]
        assert project.run("002-iic").cluster_names() == {2: "mitochondria"}
        assert project.predictions.of("001-auto", "target").classes.shape == (1, 3, 64, 64)
        assert project.predictions.of("002-iic", "target").clusters.shape == (3, 3, 64, 64)


@pytest.mark.parametrize("run", ["001-auto", "002-iic"])
def test_an_old_prediction_is_still_complete_and_a_new_one_is_the_same(old, run):
    before = probabilities(old, run)
    files = {path: path.stat().st_mtime_ns for path in old.glob(f"runs/{run}/*.zarr/target/c/**/*")}
    emda("predict", old, "--run", run)
    assert files == {path: path.stat().st_mtime_ns for path in files}, "predicted again"
    shutil.rmtree(old / "runs" / run / "probabilities.zarr")
    emda("predict", old, "--run", run, "--set", "precision=32", "--set", "device=cpu")
    # Other processors round the last bit of float32 differently: on disk, at most 1 of 255.
    assert np.abs(probabilities(old, run).astype(int) - before).max() <= 1


@pytest.mark.usefixtures("measures_all")
def test_an_old_training_continues_where_it_was_stopped(old):
    result = emda("train", old, "--resume", "003-auto")
    assert result["step"] == 6
    with (
        safe_open(old / "runs" / "003-auto" / "checkpoint.safetensors", "np") as continued,
        safe_open(old.parent / "expected.safetensors", "np") as expected,
    ):
        names = list(expected.keys())
        assert len(names) > 50
        # Of a target with annotated patches, `auto` no longer moves the shares of the classes
        # towards those of the source.
        names.remove("network.offset")
        assert not continued.get_tensor("network.offset").any()
        for name in names:
            tensor = continued.get_tensor(name)
            np.testing.assert_allclose(tensor, expected.get_tensor(name), rtol=1e-3, atol=1e-4)


def test_old_names_of_settings_are_read_on_the_command_line(old):
    old_names = ["base=8", "levels=3", "shares=0.5", "neighbours=false"]
    assignments = [*old_names, "patch=32", "batch=2"]
    settings = [argument for assignment in assignments for argument in ("--set", assignment)]
    small = ["--profile", "test", "--steps", 1, "--device", "cpu"]
    run = emda("train", old, "--method", "auto", *small, *settings)["run"]
    job = json.loads((old / "runs" / run / "job.json").read_text("utf-8"))
    assert job["network_settings"]["base_channels"] == 8
    assert job["method_settings"]["prior_strength"] == 0.5
    assert job["method_settings"]["z_smoothing"] is False
