"""A volume and its labels, read box by box."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.blocks import strips
from napari_emda.data.box import Box
from napari_emda.data.edges import mirrored, padded
from napari_emda.data.voxel_grid import VoxelGrid

IGNORE = 255
"""Class id of an unlabelled voxel; every loss and score skips it.

In memory only, never on disk.
"""

Domain = Literal["source", "target"]
LabelsZero = Literal["background", "unannotated"]


@dataclass(frozen=True)
class Volume:
    """An image with its voxel grid, and its labels if it has any.

    Attributes:
        name: unique in its project.
        image: grey values, (z, y, x), any real dtype, read lazily.
        domain: ``source`` (labelled) or ``target``.
        grid: voxel size, its unit, and whether the sections are independent images.
        labels: integer labels of the same shape, or None.
        labels_zero: what 0 means in ``labels``: background, or not annotated (then k stands for
            class k - 1).
        ids: numbers of objects of the same shape, 0 where there is none, as a file has them; None
            if the labels hold classes.
        annotations: uint8 of the same shape, 0 = not annotated, k = class k - 1; wins over
            ``labels``.
        annotated: boxes outside which ``annotations`` are 0, so that a large volume need not be
            searched for them.
        taught: what a teacher predicts, uint8 (C - 1, z, y, x) as predictions are stored; None
            without one.
        classes: number of classes; with two, every label that is not 0 is class 1.
        path: of the image's file or folder; None for an image in memory alone.
    """

    name: str
    image: Array
    domain: Domain
    grid: VoxelGrid
    labels: Array | None = None
    labels_zero: LabelsZero = "background"
    ids: Array | None = None
    annotations: Array | None = None
    annotated: tuple[Box, ...] = ()
    taught: Array | None = None
    classes: int = 2
    path: Path | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        z, y, x = self.image.shape
        return z, y, x

    def read(self, box: Box) -> NDArray[np.float32]:
        """Grey values of a box as float32, mirrored outside the volume."""
        inside, index = mirrored(box, self.shape)
        values = np.asarray(self.image[inside.slices], dtype=np.float32)
        return values if inside == box else values[index]

    def read_labels(self, box: Box) -> NDArray[np.uint8]:
        """Class ids of a box, uint8; IGNORE where nothing is labelled and outside the volume."""
        inside = box.clip(self.shape)
        values = np.full(inside.shape, IGNORE, np.uint8)
        if self.labels is not None:
            values = self._class_ids(np.asarray(self.labels[inside.slices]))
        if self.annotations is not None:
            annotations = np.asarray(self.annotations[inside.slices])
            values = np.where(annotations > 0, annotations - 1, values).astype(np.uint8)
        return padded(values, inside, box, IGNORE)

    def read_ids(self, box: Box) -> NDArray[np.int64]:
        """Numbers of objects of a box, int64; 0 where there is none, or none is known.

        Annotations say nothing of objects, so there is none where something is annotated.
        """
        inside = box.clip(self.shape)
        if self.ids is None:
            return np.zeros(box.shape, np.int64)
        values = np.asarray(self.ids[inside.slices]).astype(np.int64)
        if self.annotations is not None:
            values[np.asarray(self.annotations[inside.slices]) > 0] = 0
        return padded(values, inside, box, 0)

    def _class_ids(self, labels: NDArray[Any]) -> NDArray[np.uint8]:
        if self.labels_zero == "unannotated":
            return np.where(labels > 0, np.minimum(labels, IGNORE) - 1, IGNORE).astype(np.uint8)
        # With two classes, labels may also be the ids of objects, above 255.
        if self.classes == 2:
            return (labels > 0).astype(np.uint8)
        # A number beyond uint8 must not become a class by the cast.
        return np.minimum(labels, IGNORE - 1).astype(np.uint8)

    @property
    def label_boxes(self) -> tuple[Box, ...]:
        """Disjoint boxes outside which nothing is labelled.

        All sections of a labelled volume, large ones in strips, the annotated boxes, or none.
        """
        if self.labels is not None or (self.annotations is not None and not self.annotated):
            return tuple(strips(Box.whole(self.shape)))
        return self.annotated if self.annotations is not None else ()

    @property
    def taught_images(self) -> tuple[Volume, ...]:
        """What a teacher predicts of each class but the background, as grey values."""
        if self.taught is None:
            return ()
        channels = range(self.taught.shape[0])
        return tuple(
            Volume(self.name, Channel(self.taught, channel), self.domain, self.grid)
            for channel in channels
        )

    @property
    def class_ids(self) -> ClassIds:
        """The class ids as a lazily read (z, y, x) uint8 array."""
        return ClassIds(self)

    def without_labels(self) -> Volume:
        """The volume without its labels; annotations of the project stay."""
        return replace(self, labels=None, ids=None)


@dataclass(frozen=True)
class Channel:
    """One channel of an array (channels, z, y, x), sliced like an array (z, y, x).

    Attributes:
        array: of all channels.
        index: of the one.
    """

    array: Array
    index: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the array."""
        return np.dtype(self.array.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along z, y, x."""
        return tuple(self.array.shape[1:])

    def __getitem__(self, key: Any) -> Any:
        return self.array[(self.index, *key)]


@dataclass(frozen=True)
class ClassIds:
    """Class ids of a volume, sliced like an array; IGNORE where nothing is labelled."""

    volume: Volume
    dtype: ClassVar[np.dtype[np.uint8]] = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        return self.volume.shape

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.uint8]:
        ends = [axis.indices(n)[:2] for axis, n in zip(key, self.shape, strict=True)]
        (z0, z1), (y0, y1), (x0, x1) = ends
        return self.volume.read_labels(Box((z0, y0, x0), (z1, y1, x1)))
