"""A volume seen at another pixel size, section by section."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.data.edges import mirrored, padded
from napari_emda.data.resampling_weights import interval_weights
from napari_emda.data.volume import IGNORE, Volume

Held = tuple[NDArray[Any], NDArray[np.uint8] | None]
"""Image and class ids (if any) in memory, (z, y, x)."""


@dataclass(frozen=True)
class Resampled:
    """A volume seen at another in-plane pixel size; sections stay as they are.

    Boxes are in its own pixels.

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
        # a hair more than a whole number is one of floating point: no further row for that
        return (
            z,
            max(1, math.ceil(y * self.scale[0] - 1e-6)),
            max(1, math.ceil(x * self.scale[1] - 1e-6)),
        )

    def in_memory(self, limit: int) -> Resampled:
        """A copy with image and labels in memory; this one if they take more than ``limit`` bytes."""
        # at its own pixel size a volume keeps its type, as a rule a quarter of float32
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
    def held(self) -> Held | None:
        """Image and labels where they are in memory; None where they are read from the disk."""
        return None if self._image is None else (self._image, self._labels)

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
        inside, index = mirrored(box, self.shape)
        values = (
            self._section(inside)
            if self._image is None
            else self._image[inside.slices].astype(np.float32)
        )
        return values if inside == box else values[index]

    def read_labels(self, box: Box) -> NDArray[np.uint8]:
        """Class ids of a box: of each pixel the class that covers most of it.

        IGNORE outside the volume, and where most of a pixel is IGNORE.
        """
        inside = box.clip(self.shape)
        if not self.labelled:
            return np.full(box.shape, IGNORE, np.uint8)
        if self._labels is not None:
            return padded(self._labels[inside.slices], inside, box, IGNORE)
        if self.scale == (1, 1):
            return self.volume.read_labels(box)
        native, rows, columns = self._weights(inside)
        labels = self.volume.read_labels(native)
        ids = np.unique(labels)
        shares = [
            np.matmul(np.matmul(rows, (labels == k).astype(np.float32)), columns.T) for k in ids
        ]
        return padded(ids[np.argmax(shares, axis=0)].astype(np.uint8), inside, box, IGNORE)

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
    """The coarsest in-plane pixel size among volumes, in their unit.

    None is enlarged, and none loses more than it must. In-plane sizes of one volume that differ
    (y against x) count with the finer one.
    """
    return max(volume.grid.pixel_size for volume in volumes)
