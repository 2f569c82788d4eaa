"""The annotations of a project: accepted region by region, or read from a label image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.label_meaning import LabelMeaning, MeantLabels
from napari_emda.data.label_values import (
    annotation_message,
    not_annotations,
    wrong_numbers,
)
from napari_emda.data.volume import LabelsZero
from napari_emda.errors import DataError
from napari_emda.io.checks import check_labels
from napari_emda.io.read import open_labels
from napari_emda.project.annotation_arrays import AnnotationArrays
from napari_emda.project.import_record import ImportRecord
from napari_emda.project.learning_curve import confusion
from napari_emda.project.predictions import Predictions
from napari_emda.project.region import IMPORTED, OBJECT, Region, State, outside
from napari_emda.project.regions import Regions, new_id
from napari_emda.project.undo import Decision, LabelImport
from napari_emda.project.volumes import Volumes

Voxel = tuple[int, int, int]
"""z, y, x."""


class Annotations:
    """What the user painted or imported; it is on disk after every call.

    Args:
        folder: of the project.
        arrays: the arrays of the volumes.
        classes: of the project, background first.
        volumes: of the project.
        regions: where accepted regions are recorded.
        predictions: what accepted regions are compared with.
    """

    def __init__(
        self,
        folder: Path,
        arrays: AnnotationArrays,
        classes: tuple[str, ...],
        volumes: Volumes,
        regions: Regions,
        predictions: Predictions,
    ) -> None:
        self._folder = folder
        self._arrays = arrays
        self._classes = classes
        self._volumes = volumes
        self._regions = regions
        self._predictions = predictions
        self._shapes: dict[str, tuple[int, ...]] = {}

    def open(self, volume: str) -> zarr.Array[Any] | None:
        """Annotations of a volume for reading; None if there are none yet.

        Returns:
            uint8 (z, y, x), 0 = not annotated, k = class k - 1.
        """
        return self._arrays.open(volume)

    def require(self, volume: str) -> zarr.Array[Any]:
        """Annotations of a volume for writing, see `open`; created if there are none yet."""
        # Kept: it is asked for several times at each decision, and reading it opens the image.
        if volume not in self._shapes:
            self._shapes[volume] = self._volumes.shape(volume)
        return self._arrays.require(volume, self._shapes[volume])

    def accept(
        self,
        region: Region,
        values: NDArray[Any] | None = None,
        *,
        complete: bool = True,
        predicted: NDArray[np.uint8] | None = None,
    ) -> Region:
        """Accept a region, and record how far the model agreed; on disk when this returns.

        Args:
            region: the region that was annotated.
            values: class ids + 1 (0 = not annotated) of the region's shape to write; by default
                what is painted there.
            complete: voxels that are not painted become background; otherwise they stay not
                annotated.
            predicted: class ids that the user started from, if not those of the prediction.

        Returns:
            The region in its new state.

        Raises:
            DataError: a number among the values is no class; nothing is changed.
        """
        array = self.require(region.volume)
        box = region.voxels
        values = np.asarray(array[box.slices] if values is None else values)
        # Before the cast to uint8, which would turn 256 into 0 and -1 into 255.
        self.check(region, values)
        painted = values.astype(np.uint8)
        if complete:
            painted = np.where(painted == 0, 1, painted).astype(np.uint8)
        # The annotations reach the disk before the record of them: a region that is recorded as
        # accepted never lacks voxels, whenever the power fails.
        array[box.slices] = painted
        self._arrays.sync(region.volume, box)
        model = self._predictions.in_region(region)
        start = predicted if predicted is not None else model
        if start is None:
            start = np.zeros_like(painted)  # the user started from background
        outcome = {
            "state": "accepted" if complete else "partial",
            "changed": int(((painted > 0) & (painted != start + 1)).sum()),
            "confusion": () if model is None else confusion(model, painted, len(self._classes)),
        }
        return self._regions.record(region.model_copy(update=outcome))

    def check(self, region: Region, values: NDArray[Any]) -> None:
        """Check that annotations of a region are 0 or classes, and that it lies in the volume.

        Raises:
            DataError: names what is wrong.
        """
        classes = len(self._classes)
        # Of a box that leaves the array, fewer values are read.
        if values.shape != region.voxels.shape:
            raise outside(region)
        whole = Box((0, 0, 0), region.voxels.shape)
        found = wrong_numbers(values, not_annotations(classes), [whole])
        if found:
            moved = found.moved(region.voxels.start)
            raise DataError(annotation_message(region.volume, moved, classes))

    def take(
        self,
        labels: str | Path,
        volume: str,
        state: State = "suggested",
        meaning: LabelMeaning | None = None,
    ) -> list[Region]:
        """Accept all regions of a volume in a state, with the annotations of a label image.

        Voxels that the meaning ignores stay not annotated.

        Args:
            labels: path of an image of the volume's shape.
            volume: name of the volume.
            state: of the regions.
            meaning: of the numbers in the labels; by default 0 = background, k = class k.

        Raises:
            DataError: the labels cannot be used.
        """
        numbers = self._checked(open_labels(Path(labels)).array, volume, meaning or LabelMeaning())
        regions = [
            region
            for region in self._regions.all()
            if region.state == state and region.volume == volume
        ]
        taken = []
        for region in regions:
            before = np.asarray(self.require(volume)[region.voxels.slices])
            self._regions.decisions.add(Decision(region, before))
            values = numbers[region.voxels.slices]
            taken.append(self.accept(region, values, complete=bool(values.all())))
        return taken

    def import_labels(
        self,
        labels: Array,
        volume: str,
        labels_zero: LabelsZero = "unannotated",
        *,
        whole_sections: bool = False,
        meaning: LabelMeaning | None = None,
    ) -> Region:
        """Take labels as annotations wherever nothing is annotated yet; on disk when this returns.

        Painted numbers that are no class count as not annotated, and are replaced.

        Args:
            labels: integers (z, y, x) of the volume's shape, k = class k; in a project of two
                classes, all values above 0 are class 1.
            volume: name of the volume.
            labels_zero: whether 0 means background or not annotated.
            whole_sections: 0 means background in the sections that contain a label, and not
                annotated in the others.
            meaning: of the numbers in the labels, in place of both.

        Returns:
            A region that spans the volume.

        Raises:
            DataError: the labels cannot be used.
        """
        if meaning is None:
            zero_is_background = whole_sections or labels_zero == "background"
            meaning = LabelMeaning(
                ignore=None if zero_is_background else (0,), labelled_sections=whole_sections
            )
        numbers = self._checked(labels, volume, meaning)
        array = self.require(volume)
        region, record = self._begin_import(volume, array)
        complete = True
        # Section by section, because labels may be larger than memory.
        for z in range(numbers.shape[0]):
            imported = numbers[z]
            complete = complete and bool(imported.all())
            section = Box((z, 0, 0), (z + 1, array.shape[1], array.shape[2]))
            self._fill(array, section, imported[None], record)
        self._arrays.sync(volume, region.voxels)
        state: State = "accepted" if complete else "partial"
        return self._regions.record(region.model_copy(update={"state": state}))

    def _fill(
        self,
        array: zarr.Array[Any],
        box: Box,
        values: NDArray[np.uint8],
        record: ImportRecord,
    ) -> None:
        """Write annotations into a box where there are none, and note what was changed."""
        painted = np.asarray(array[box.slices])
        free = (painted == 0) | (painted > len(self._classes))
        # Writing voxels that do not change would only cost time.
        if values[free].any() or painted[free].any():
            changed = np.where(free, values, painted).astype(np.uint8)
            record.note(box, painted, changed)
            array[box.slices] = changed

    def teach(
        self, region: str, volume: str, box: Box, labels: Iterable[tuple[Box, NDArray[np.uint8]]]
    ) -> Region:
        """Annotate what a decision on an object says, wherever nothing is annotated yet.

        It is on disk when this returns. `History.swap_taught` takes it back.

        Args:
            region: id of the region that holds it, which is new.
            volume: name of the volume.
            box: that holds all of it.
            labels: boxes, and the annotations in them: class ids + 1, 0 for none.

        Returns:
            The region.
        """
        array = self.require(volume)
        record = ImportRecord(self._folder, region)
        record.create(array)
        for part, values in labels:
            self._fill(array, part, values, record)
        self._arrays.sync(volume, box)
        taught = Region(
            id=region,
            volume=volume,
            box=str(box),
            state="partial",
            strategy=OBJECT,
            round=self._regions.round,
        )
        return self._regions.record(taught)

    def free(self, volume: str, voxels: Sequence[Voxel]) -> list[bool]:
        """Which voxels are not annotated yet."""
        array = self.open(volume)
        return [array is None or not np.asarray(array[voxel]).any() for voxel in voxels]

    def mark(self, volume: str, values: Sequence[tuple[Voxel, int]]) -> None:
        """Annotate single voxels, k = class k - 1; on disk when this returns."""
        self._write_voxels(volume, values)

    def unmark(self, volume: str, values: Sequence[tuple[Voxel, int]]) -> None:
        """Take annotations of single voxels back that still have the given values."""
        array = self.open(volume)
        if array is None:
            return
        same = [voxel for voxel, value in values if int(np.asarray(array[voxel])) == value]
        self._write_voxels(volume, [(voxel, 0) for voxel in same])

    def _write_voxels(self, volume: str, values: Sequence[tuple[Voxel, int]]) -> None:
        array = self.require(volume) if values else None
        if array is None:
            return
        in_chunk: dict[Voxel, list[tuple[Voxel, int]]] = {}
        for (z, y, x), value in values:
            chunk = (z // array.chunks[0], y // array.chunks[1], x // array.chunks[2])
            in_chunk.setdefault(chunk, []).append(((z, y, x), value))
        # Chunk by chunk: each is written and waited for once.
        for (i, j, k), inside in in_chunk.items():
            depth, height, width = array.chunks
            start = (i * depth, j * height, k * width)
            stop = (start[0] + depth, start[1] + height, start[2] + width)
            box = Box(start, stop).clip(array.shape)
            painted = np.array(array[box.slices])
            for (z, y, x), value in inside:
                painted[z - start[0], y - start[1], x - start[2]] = value
            array[box.slices] = painted
            self._arrays.sync(volume, box)

    def _begin_import(self, volume: str, array: zarr.Array[Any]) -> tuple[Region, ImportRecord]:
        """Note an import before it changes anything; returns its region, as it is before."""
        region = Region(
            id=new_id(),
            volume=volume,
            box=str(Box.whole(array.shape)),
            state="replaced",
            strategy=IMPORTED,
            round=self._regions.round,
        )
        record = ImportRecord(self._folder, region.id)
        record.create(array)
        # An import that is cut off can be taken back, too.
        self._regions.decisions.add(LabelImport(region, done=True))
        return region, record

    def _checked(self, labels: Array, volume: str, meaning: LabelMeaning) -> MeantLabels:
        """Labels as annotations; DataError if they do not fit the volume or its classes."""
        classes = len(self._classes)
        shape = self._volumes.shape(volume)
        # Strokes of one class add to the annotations that are there.
        one_class = meaning.is_partial
        check_labels(volume, labels, shape, classes, meaning=meaning, one_class=one_class)
        return MeantLabels(labels, meaning, classes)
