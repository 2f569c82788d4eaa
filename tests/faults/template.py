"""The project that is attacked, made by the commands themselves, and copies of it."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from PIL import Image

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.io.write import save_volume
from tests.cli.calling import image
from tests.faults.cases import RUN, SHAPE, Case, labels
from tests.faults.server import Outcome, Server
from tests.faults.shim import Fault, changes

# Commands that the server runs once itself: all others use what these have made ready. Not those
# that train, see `tests.faults.server.rehearse`.
REHEARSED = (
    *("new", "predict again", "suggest", "annotate all", "score", "export zarr", "export tif"),
    *("table", "probabilities", "objects", "model", "decide", "take back", "mend", "new ome.zarr"),
    *("new image.zarr", "new sections", "new one.jpg", "model file", "pack", "report"),
)


def _write_inputs(folder: Path) -> None:
    """A small image in each of the formats `INPUTS`."""
    grey = np.random.default_rng(1).integers(0, 255, (2, 48, 40)).astype(np.uint8)
    (folder / "sections").mkdir(parents=True)
    for z, section in enumerate(grey):
        Image.fromarray(section).save(folder / "sections" / f"s{z:03}.png")
    Image.fromarray(grey[0]).save(folder / "one.png")
    Image.fromarray(grey[0]).save(folder / "one.jpg")
    zarr.create_array(folder / "image.zarr", data=grey)
    tifffile.imwrite(folder / "lzw.tif", grey, compression="lzw", photometric="minisblack")
    tifffile.imwrite(
        folder / "ome.ome.tif", grey, photometric="minisblack", metadata={"axes": "ZYX"}
    )
    list(save_volume([grey], folder / "ome.zarr", np.uint8, VoxelGrid((50, 8, 8))))


class Template:
    """A folder with the project, made once by the commands themselves.

    Args:
        server: runs them.
        folder: for the project and for its copies.
    """

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.whole = Case(folder / "whole")
        self._copies = 0
        self._make()
        self.before = self.whole.accepted()
        assert len(self.before) == 2

    def copy(self, name: str = "") -> Case:
        """A new copy."""
        self._copies += 1
        folder = self.folder / (name or f"copy-{self._copies}")
        shutil.copytree(self.whole.folder, folder)
        return Case(folder)

    def remove(self, case: Case) -> None:
        """Remove a copy."""
        shutil.rmtree(case.folder, ignore_errors=True)

    def _make(self) -> None:
        case = self.whole
        (case.folder / "outside" / "documents").mkdir(parents=True)
        (case.folder / "outside" / "thesis.txt").write_text("years of work")
        case.here.mkdir()
        noise = np.random.default_rng(0)
        for name in ("source", "target"):
            grey = labels() * 90 + noise.integers(0, 99, SHAPE)
            image(case.here / f"{name}.tif", grey.astype(np.uint8))
        image(case.here / "labels.tif", labels())
        _write_inputs(case.here / "inputs")
        self._call("new")
        (case.here / "made").rename(case.project)
        for name in ("train", "suggest", "annotate", "suggest"):
            self._call(name)
        self._rehearse()
        self._cut_off_training()
        for name, made, kept in (
            ("export tif", "out.tif", "old.tif"),
            ("export zarr", "out.zarr", "old.zarr"),
            ("model file", "model.safetensors", "given.safetensors"),
            ("pack", "packed.zip", "brain.zip"),
        ):
            self._call(name)
            (case.here / made).rename(case.here / kept)
        job = {"kind": "predict", "project": "project", "run": RUN, "checkpoint": "last"}
        (case.here / "predict.json").write_text(json.dumps(job))

    def _rehearse(self) -> None:
        """Let the server prepare for what comes, on a copy."""
        trial = self.copy("trial")
        names = [name for name in REHEARSED if self.server.with_packages or name != "model"]
        self.server.run(*(trial.request(name, rehearsed=True) for name in names))
        self.remove(trial)

    def _call(self, name: str, fault: Fault | None = None, **more: Any) -> Outcome:
        outcome = self.whole.run(self.server, name, fault, **more)
        assert outcome.status == (3 if fault else 0), outcome
        return outcome

    def _cut_off_training(self) -> None:
        """Train a second run, and stop it when it has saved its second step."""
        record = self.folder / "record"
        record.mkdir()
        trial = self.copy("trial")
        trial.run(self.server, "train", record=str(record))
        saved = [c.number for c in changes(record) if c.other.endswith("/checkpoint.safetensors")]
        self._call("train", Fault("signal", saved[1], signal.SIGTERM))
        self.remove(trial)
        shutil.rmtree(record)
