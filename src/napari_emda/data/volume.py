"""A volume and its labels, read box by box, at its own or at another pixel size."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.data.voxel_grid import VoxelGrid

IGNORE = 255
"""Class id of a voxel at which nobody looked; every loss and score skips it. In tensors only, never on disk."""

Domain = Literal["source", "target"]
LabelsZero = Literal["background", "unannotated"]


class Array(Protocol):
    """Anything with shape, dtype and slicing: NumPy, memmap, zarr, dask."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Entries along each axis."""
        ...

    @property
    def dtype(self) -> Any:
        """Of the entries."""
        ...

    def __getitem__(self, key: Any, /) -> Any: ...


def _padding(box: Box, inside: Box) -> list[tuple[int, int]]:
    return [
        (c - a, b - d)
        for a, b, c, d in zip(box.start, box.stop, inside.start, inside.stop, strict=True)
    ]


def _mirrored(box: Box, shape: tuple[int, ...]) -> tuple[Box, tuple[NDArray[np.int64], ...]]:
    """What to read of an array so as to fill a box that may reach beyond it, and where each voxel is found in that."""
    places = []
    for a, b, n in zip(box.start, box.stop, shape, strict=True):
        place = np.arange(a, b) % (2 * n)
        places.append(np.minimum(place, 2 * n - 1 - place))
    low = tuple(int(place.min()) for place in places)
    high = tuple(int(place.max()) + 1 for place in places)
    return Box(low, high), np.ix_(*(place - a for place, a in zip(places, low, strict=True)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Volume:
    """An image, perhaps with labels, and what is known of its voxels.

    Attributes:
        name: unique in its project.
        image: grey values, (z, y, x), any real dtype, read lazily.
        domain: ``source`` (labelled) or ``target``.
        grid: voxel size, its unit, and whether the sections are images of their own.
        labels: integer labels of the same shape, or None.
        labels_zero: what 0 means in ``labels``: background, or not annotated (then k stands for class k - 1).
        annotations: uint8 of the same shape, 0 = not annotated, k = class k - 1; wins over ``labels``.
        annotated: boxes outside which ``annotations`` hold nothing, so that nobody searches a large volume for them.
        classes: number of classes; with two, every label that is not 0 is class 1.
    """

    name: str
    image: Array
    domain: Domain
    grid: VoxelGrid
    labels: Array | None = None
    labels_zero: LabelsZero = "background"
    annotations: Array | None = None
    annotated: tuple[Box, ...] = ()
    classes: int = 2

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        z, y, x = self.image.shape
        return z, y, x

    def read(self, box: Box) -> NDArray[np.float32]:
        """Grey values of a box as float32, mirrored outside the volume."""
        inside, mirrored = _mirrored(box, self.shape)
        values = np.asarray(self.image[inside.slices], dtype=np.float32)
        return values if inside == box else values[mirrored]

    def read_labels(self, box: Box) -> NDArray[np.uint8]:
        """Class ids of a box, IGNORE where nothing is annotated and outside the volume."""
        inside = box.clip(self.shape)
        values = np.full(inside.shape, IGNORE, np.uint8)
        if self.labels is not None:
            values = self._class_ids(np.asarray(self.labels[inside.slices]))
        if self.annotations is not None:
            painted = np.asarray(self.annotations[inside.slices])
            values = np.where(painted > 0, painted - 1, values).astype(np.uint8)
        if inside == box:
            return values
        return np.pad(values, _padding(box, inside), mode="constant", constant_values=IGNORE)

    def _class_ids(self, labels: NDArray[Any]) -> NDArray[np.uint8]:
        if self.labels_zero == "unannotated":
            return np.where(labels > 0, labels - 1, IGNORE).astype(np.uint8)
        return (labels > 0).astype(np.uint8) if self.classes == 2 else labels.astype(np.uint8)

    @property
    def label_boxes(self) -> tuple[Box, ...]:
        """Boxes, disjoint, outside which nothing is labelled: everything, what was annotated, or none."""
        if self.labels is not None or (self.annotations is not None and not self.annotated):
            return tuple(Box((z, 0, 0), (z + 1, *self.shape[1:])) for z in range(self.shape[0]))
        return self.annotated if self.annotations is not None else ()

    @property
    def class_ids(self) -> ClassIds:
        """The class ids as a lazily read (z, y, x) uint8 array."""
        return ClassIds(self)

    def without_labels(self) -> Volume:
        """The same volume as an unlabelled one; what is annotated in the project stays."""
        return replace(self, labels=None)

    def at(self, pixel_size: float) -> Resampled:
        """This volume on a grid of square pixels of that size (in its unit), section by section."""
        return Resampled(self, pixel_size)


@dataclass(frozen=True)
class ClassIds:
    """Class ids of a volume, sliced like an array; IGNORE where nothing is annotated."""

    volume: Volume
    dtype: ClassVar[np.dtype[np.uint8]] = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        return self.volume.shape

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.uint8]:
        bounds = [part.indices(n)[:2] for part, n in zip(key, self.shape, strict=True)]
        return self.volume.read_labels(Box.from_bounds([v for pair in bounds for v in pair]))


def interval_weights(
    start: int, stop: int, scale: float, size: int
) -> tuple[int, NDArray[np.float32]]:
    """Weights that bring one axis to another pixel size.

    Output pixel ``i`` covers the input interval [i / scale, (i + 1) / scale). Shrinking (scale < 1) takes the mean over
    that interval (for an integer factor: binning), enlarging interpolates linearly between pixel centres. The result
    depends on absolute positions alone, so blocks agree with the whole.

    Args:
        start: first output pixel.
        stop: one past the last.
        scale: output pixels per input pixel.
        size: input pixels along the axis.

    Returns:
        The first input pixel needed and the weights, (stop - start) x (input pixels needed).
    """
    i = np.arange(start, stop, dtype=np.float64)
    if scale < 1:
        low, high = i / scale, np.minimum((i + 1) / scale, size)
    else:
        centre = np.clip((i + 0.5) / scale - 0.5, 0, size - 1)
        low, high = np.floor(centre), np.minimum(np.floor(centre) + 2, size)
    first, last = math.floor(low[0] + 1e-9), math.ceil(high[-1] - 1e-9)
    j = np.arange(first, last)
    if scale < 1:
        weights = np.clip(np.minimum(high[:, None], j + 1) - np.maximum(low[:, None], j), 0, 1)
    else:
        weights = np.clip(1 - np.abs(centre[:, None] - j), 0, 1)
    return first, (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Resampled:
    """A volume seen at another in-plane pixel size; sections stay as they are. Boxes are in its own pixels.

    Args:
        volume: what is seen.
        pixel_size: side of the square pixels, in the volume's unit.
    """

    volume: Volume
    pixel_size: float
    _image: NDArray[Any] | None = field(default=None, repr=False)
    _labels: NDArray[np.uint8] | None = field(default=None, repr=False)

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels per voxel along y and x, near whole numbers or their inverses exactly these."""
        return self.volume.grid.scale_to(self.pixel_size)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Sections, rows and columns at this pixel size."""
        z, y, x = self.volume.shape
        return (
            z,
            max(1, math.ceil(y * self.scale[0] - 1e-6)),
            max(1, math.ceil(x * self.scale[1] - 1e-6)),
        )

    def in_memory(self, limit: int) -> Resampled:
        """A copy that holds image and labels in memory when they take at most ``limit`` bytes, else this one."""
        dtype = np.dtype(self.volume.image.dtype) if self.scale == (1, 1) else np.dtype(np.float32)
        if math.prod(self.shape) * (dtype.itemsize + self.labelled) > limit:
            return self
        image = np.empty(self.shape, dtype)
        labels = np.full(self.shape, IGNORE, np.uint8) if self.labelled else None
        for z in range(self.shape[0]):
            section = Box((z, 0, 0), (z + 1, self.shape[1], self.shape[2]))
            image[z] = self.read(section)[0]
            if labels is not None:
                labels[z] = self.read_labels(section)[0]
        return replace(self, _image=image, _labels=labels)

    @property
    def labelled(self) -> bool:
        """Whether there may be a label anywhere."""
        return self.volume.labels is not None or self.volume.annotations is not None

    def _weights(self, inside: Box) -> tuple[Box, NDArray[np.float32], NDArray[np.float32]]:
        (z0, y0, x0), (z1, y1, x1) = inside.start, inside.stop
        top, rows = interval_weights(y0, y1, self.scale[0], self.volume.shape[1])
        left, columns = interval_weights(x0, x1, self.scale[1], self.volume.shape[2])
        native = Box((z0, top, left), (z1, top + rows.shape[1], left + columns.shape[1]))
        return native, rows, columns

    def _section(self, inside: Box) -> NDArray[np.float32]:
        if self.scale == (1, 1):
            return self.volume.read(inside)
        native, rows, columns = self._weights(inside)
        return np.matmul(np.matmul(rows, self.volume.read(native)), columns.T)

    def read(self, box: Box) -> NDArray[np.float32]:
        """Grey values of a box as float32, mirrored outside the volume."""
        inside, mirrored = _mirrored(box, self.shape)
        values = (
            self._section(inside)
            if self._image is None
            else self._image[inside.slices].astype(np.float32)
        )
        return values if inside == box else values[mirrored]

    def read_labels(self, box: Box) -> NDArray[np.uint8]:
        """Class ids of a box: the class that covers most of each pixel; IGNORE outside and where most is IGNORE."""
        inside = box.clip(self.shape)
        if not self.labelled:
            return np.full(box.shape, IGNORE, np.uint8)
        if self._labels is not None:
            return self._frame(self._labels[inside.slices], box, inside)
        if self.scale == (1, 1):
            return self.volume.read_labels(box)
        native, rows, columns = self._weights(inside)
        labels = self.volume.read_labels(native)
        ids = np.unique(labels)
        shares = [
            np.matmul(np.matmul(rows, (labels == k).astype(np.float32)), columns.T) for k in ids
        ]
        return self._frame(ids[np.argmax(shares, axis=0)].astype(np.uint8), box, inside)

    @staticmethod
    def _frame(labels: NDArray[np.uint8], box: Box, inside: Box) -> NDArray[np.uint8]:
        if inside == box:
            return labels
        return np.pad(labels, _padding(box, inside), mode="constant", constant_values=IGNORE)

    def box_of(self, native: Box) -> Box:
        """The pixels whose centres lie in a box of voxels (at least one a side)."""
        (z0, *low), (z1, *high) = native.start, native.stop
        start = [
            min(round(a * s), n - 1)
            for a, s, n in zip(low, self.scale, self.shape[1:], strict=True)
        ]
        stop = [max(a + 1, round(b * s)) for a, b, s in zip(start, high, self.scale, strict=True)]
        return Box((z0, start[0], start[1]), (z1, stop[0], stop[1])).clip(self.shape)


def common_pixel_size(volumes: list[Volume]) -> float:
    """The coarsest in-plane pixel size among volumes, in their unit: none is enlarged, none loses more than it must.

    In-plane sizes of one volume that differ (y against x) count with the finer one.
    """
    return max(volume.grid.pixel_size for volume in volumes)
