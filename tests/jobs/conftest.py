"""A project with a prediction of two classes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import zarr

from napari_emda.project.project import Project

CLASSES = ("background", "mitochondria", "membrane")
RUN = "001-source_only"


@pytest.fixture
def values():
    """Probabilities of two classes, (2, 3, 20, 30), in which every voxel has a clear class."""
    rng = np.random.default_rng(0)
    likely = rng.integers(0, 3, (3, 20, 30))
    return np.stack([np.where(likely == k, 200, 10) for k in (1, 2)]).astype(np.uint8)


@pytest.fixture
def predicted(tmp_path, values, monkeypatch):
    """A project with a run that has a prediction, and a model that cannot be loaded."""
    zarr.save_array(tmp_path / "target.zarr", np.zeros(values.shape[1:], np.uint8))
    with Project.create(tmp_path / "p", CLASSES) as project:
        project.volumes.add(tmp_path / "target.zarr", "target", spacing=(50.0, 8.0, 8.0))
        run = project.folder / "runs" / RUN
        run.mkdir(parents=True)
        (run / "checkpoint.safetensors").write_bytes(b"")
        zarr.open_group(run / "probabilities.zarr", mode="a")
        zarr.create_array(
            run / "probabilities.zarr" / "target",
            data=values,
            chunks=(1, 1, 20, 30),
            attributes={"classes": list(CLASSES)},
        )
    header = SimpleNamespace(classes=CLASSES, features_only=False)
    monkeypatch.setattr("napari_emda.inference.checkpoint.read_header", lambda path: header)
    for job in ("export", "objects"):
        monkeypatch.setattr(f"napari_emda.jobs.{job}.ensure_predicted", lambda *_: iter(()))
    return tmp_path / "p"
