"""The project: a folder of plain files, the only thing that changes."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.volume import LabelsZero, Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.io.atomic import write_text
from napari_emda.io.checks import check_labels
from napari_emda.io.read import open_labels
from napari_emda.project.folder import ProjectFolder
from napari_emda.project.learning_curve import confusion
from napari_emda.project.predictions import Predictions
from napari_emda.project.regions import IMPORTED, OWN, Region, RegionLog, State, latest_round
from napari_emda.project.undo import DecisionLog

_ON_VIEW = "on-view.txt"
_NO_SIZE = VoxelGrid((1, 1, 1), "pixel")
"""Of labels that are read voxel by voxel."""


class Project(ProjectFolder):
    """A project: its folder, and what was suggested and annotated in it. All is on disk after every call.

    Open it with `create` or `open`, best in a ``with`` block. Opened ``exclusive``, it cannot be opened so a second
    time, here or elsewhere, until closed; the lock ends with the process that holds it.
    """

    @property
    def predictions(self) -> Predictions:
        """What its runs say of its volumes."""
        return Predictions(self.folder, self.classes)

    # -- annotations ---------------------------------------------------------------------------------------------

    def annotate(
        self,
        region: Region,
        values: NDArray[Any] | None = None,
        *,
        complete: bool = True,
        predicted: NDArray[np.uint8] | None = None,
    ) -> Region:
        """Accept a region, on disk when this returns, with how far the model agreed.

        Args:
            region: what was annotated.
            values: class ids + 1 (0 = not annotated) of the region's shape to write; by default what was painted.
            complete: what is not painted becomes background; else it stays not annotated.
            predicted: what the user started from where that was not the prediction, as class ids.
        """
        array = self.annotations(region.volume, create=True)
        assert array is not None
        box = region.voxels
        painted = np.asarray(array[box.slices] if values is None else values).astype(np.uint8)
        if complete:
            painted = np.where(painted == 0, 1, painted).astype(np.uint8)
        array[box.slices] = painted
        self._annotations.sync(region.volume, box)
        model = self.predictions.in_region(region)
        start = (
            predicted
            if predicted is not None
            else model
            if model is not None
            else np.zeros_like(painted)
        )
        told = {
            "state": "accepted" if complete else "partial",
            "changed": int(((painted > 0) & (painted != start + 1)).sum()),
            "confusion": () if model is None else confusion(model, painted, len(self.classes)),
        }
        return self.record(region.model_copy(update=told))

    def annotate_from(
        self, labels: str | Path, volume: str, state: State = "suggested"
    ) -> list[Region]:
        """Take all regions of a volume in a state from a label image, 0 = background, k = class k."""
        array = open_labels(Path(labels)).array
        check_labels(volume, array, self.volume(volume).shape, len(self.classes))
        wanted = [
            region for region in self.regions() if region.state == state and region.volume == volume
        ]
        self.decisions.clear()
        truth = Volume("labels", array, "target", _NO_SIZE, labels=array, classes=len(self.classes))
        return [self.annotate(region, truth.read_labels(region.voxels) + 1) for region in wanted]

    def import_labels(
        self,
        labels: Array,
        volume: str,
        labels_zero: LabelsZero = "unannotated",
        *,
        whole_sections: bool = False,
    ) -> Region:
        """Take labels of a volume as annotations wherever nothing is annotated yet; on disk when this returns.

        Args:
            labels: integers (z, y, x) of the volume's shape, k = class k; with two classes all above 0 are class 1.
            volume: its name.
            labels_zero: whether 0 means background or that nobody looked.
            whole_sections: 0 is background in the sections that hold a label, and nobody looked at the others.

        Raises:
            DataError: labels that cannot be used.
        """
        shape = self.volume(volume).shape
        check_labels(volume, labels, shape, len(self.classes))
        given = Volume(
            "labels", labels, "target", _NO_SIZE, labels=labels, classes=len(self.classes)
        )
        self.decisions.clear()  # undoing what was before would wipe what is imported now
        array = self.annotations(volume, create=True)
        assert array is not None
        for z in range(shape[0]):
            ids = given.read_labels(Box((z, 0, 0), (z + 1, *shape[1:])))[0]
            looked = labels_zero == "background" or (whole_sections and ids.any())
            taken = ids + 1 if looked else np.where(ids > 0, ids + 1, 0)
            if taken.any():
                painted = np.asarray(array[z])
                array[z] = np.where(painted == 0, taken, painted).astype(np.uint8)
        box = Box.whole(shape)
        self._annotations.sync(volume, box)
        region = Region(
            id=_new_id(), volume=volume, box=str(box), strategy=IMPORTED, round=self.round
        )
        return self.record(
            region.model_copy(
                update={"state": "accepted" if labels_zero == "background" else "partial"}
            )
        )

    # -- regions -------------------------------------------------------------------------------------------------

    def regions(self) -> list[Region]:
        """All regions in their latest state, in the order in which they were first suggested."""
        return self._log.read()

    @property
    def on_view(self) -> str:
        """Id of the patch that was worked on last, to open the project there again; empty when there was none."""
        path = self.folder / _ON_VIEW
        return path.read_text("utf-8", "replace") if path.is_file() else ""

    @on_view.setter
    def on_view(self, region: str) -> None:
        with suppress(OSError):  # nothing depends on it, so nobody waits for the disk either
            write_text(self.folder / _ON_VIEW, region, durable=False)

    def record(self, region: Region) -> Region:
        """Append a region's new state, on disk when this returns."""
        return self._log.add(region)

    def suggest(self, regions: list[dict[str, Any]], strategy: str, run: str) -> list[Region]:
        """Record suggestions (``volume``, ``box``, ``score`` each) as the next round; replaces those still open."""
        self.decisions.clear()
        for region in self.regions():
            if region.state == "suggested":
                self.record(region.model_copy(update={"state": "replaced"}))
        number = self.round + 1
        return [
            self.record(
                Region.model_validate(
                    {"strategy": strategy, "run": run, **region, "id": _new_id(), "round": number}
                )
            )
            for region in regions
        ]

    def add_region(self, volume: str, box: Box, run: str = "") -> Region:
        """Record a patch of the user's own in the latest round (the first when there is none)."""
        return self.record(
            Region(
                id=_new_id(),
                volume=volume,
                box=str(box),
                strategy=OWN,
                run=run,
                round=max(1, self.round),
            )
        )

    @property
    def round(self) -> int:
        """Number of the latest round, 0 before the first."""
        return latest_round(self.regions())

    @property
    def decisions(self) -> DecisionLog:
        """The decisions of the latest round, as far as they can be taken back."""
        return DecisionLog(self.folder / "undo.jsonl")

    @property
    def _log(self) -> RegionLog:
        return RegionLog(self.folder / "regions.jsonl")


def _new_id() -> str:
    return uuid.uuid4().hex[:12]
