"""A volume seen at another pixel size, section by section."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.blocks import strips
from napari_emda.data.box import Box
from napari_emda.data.edges import mirrored, padded
from napari_emda.data.resampling_weights import interval_weights, weighted_sums
from napari_emda.data.volume import IGNORE, Volume
from napari_emda.errors import DataError

Held = tuple[NDArray[Any], NDArray[np.uint8] | None]
"""Image and class ids (if any) in memory, (z, y, x)."""

# A hair above a whole number of pixels is rounding, and needs no further row for it.
_ROUNDING = 1e-6


# Pixels of a section that may be enlarged without question: 1 GiB as float32. Of a larger image, as
# many as its own, and four times as many where both sides are doubled.
_LARGEST_SECTION = 2**28
_MOST_ENLARGED = 4


@dataclass(frozen=True)
class Resampled:
    """A volume at another in-plane pixel size; sections stay as they are.

    All boxes are in pixels of this size.

    Args:
        volume: the volume, at its own pixel size.
        pixel_size: side of the square pixels, in the volume's unit.
    """

    volume: Volume
    pixel_size: float
    _image: NDArray[Any] | None = field(default=None, repr=False)
    _labels: NDArray[np.uint8] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        rows, columns = self.shape[1:]
        voxels = math.prod(self.volume.shape[1:])
        if rows * columns > max(_LARGEST_SECTION, _MOST_ENLARGED * voxels):
            # As float32, in which sections are enlarged.
            gibibytes = rows * columns * 4 / 2**30
            raise DataError(
                f"At a pixel size of {self.pixel_size:g} {self.volume.grid.unit}, one section of "
                f"'{self.volume.name}' would have {rows} x {columns} pixels and take "
                f"{gibibytes:.0f} GiB: choose a pixel size near {self.volume.grid.pixel_size:g}."
            )

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels per voxel along y and x, see `VoxelGrid.scale_to`."""
        return self.volume.grid.scale_to(self.pixel_size)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Sections, rows and columns at this pixel size."""
        z, y, x = self.volume.shape
        rows = max(1, math.ceil(y * self.scale[0] - _ROUNDING))
        columns = max(1, math.ceil(x * self.scale[1] - _ROUNDING))
        return z, rows, columns

    def in_memory(self, limit: int) -> Resampled:
        """A copy in memory, or this one if image and labels take more than ``limit`` bytes."""
        # At its own pixel size a volume keeps its type, as a rule a quarter of float32.
        dtype = np.dtype(self.volume.image.dtype) if self.scale == (1, 1) else np.dtype(np.float32)
        if math.prod(self.shape) * (dtype.itemsize + self.labelled) > limit:
            return self
        image = np.empty(self.shape, dtype)
        labels = np.full(self.shape, IGNORE, np.uint8) if self.labelled else None
        for part in strips(Box.whole(self.shape)):
            image[part.slices] = self.read(part)
            if labels is not None:
                labels[part.slices] = self.read_labels(part)
        return replace(self, _image=image, _labels=labels)

    @property
    def held(self) -> Held | None:
        """Image and labels if they are in memory; None if they are read from disk."""
        return None if self._image is None else (self._image, self._labels)

    @property
    def labelled(self) -> bool:
        """Whether there may be a label anywhere."""
        return self.volume.labels is not None or self.volume.annotations is not None

    def _weights(self, inside: Box) -> tuple[Box, NDArray[np.float32], NDArray[np.float32]]:
        """The voxels to read, and the weights that make rows and columns of pixels of them."""
        z0, z1, y0, y1, x0, x1 = inside.bounds
        top, rows = interval_weights(y0, y1, self.scale[0], self.volume.shape[1])
        left, columns = interval_weights(x0, x1, self.scale[1], self.volume.shape[2])
        native = Box((z0, top, left), (z1, top + rows.shape[1], left + columns.shape[1]))
        return native, rows, columns

    def _section(self, inside: Box) -> NDArray[np.float32]:
        if self.scale == (1, 1):
            return self.volume.read(inside)
        native, rows, columns = self._weights(inside)
        return weighted_sums(rows, self.volume.read(native), columns)

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
        """Class ids of a box: the class that covers most of each pixel.

        IGNORE outside the volume, and if most of a pixel is IGNORE.
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
        # Shares of one class after the other, of which there are few in a box.
        ids = np.unique(labels)
        shares = [
            weighted_sums(rows, (labels == class_id).astype(np.float32), columns)
            for class_id in ids
        ]
        return padded(ids[np.argmax(shares, axis=0)].astype(np.uint8), inside, box, IGNORE)

    def read_ids(self, box: Box) -> NDArray[np.int64]:
        """Numbers of objects of a box: that of the voxel at the centre of each pixel, int64.

        0 where there is none, or none is known, and outside the volume.
        """
        inside = box.clip(self.shape)
        if self.volume.ids is None:
            return np.zeros(box.shape, np.int64)
        if self.scale == (1, 1):
            return self.volume.read_ids(box)
        z0, z1, y0, y1, x0, x1 = inside.bounds
        _, height, width = self.volume.shape
        # Numbers cannot be averaged, and there are too many for the shares of each one.
        rows = np.minimum((np.arange(y0, y1) + 0.5) / self.scale[0], height - 1).astype(int)
        columns = np.minimum((np.arange(x0, x1) + 0.5) / self.scale[1], width - 1).astype(int)
        native = Box((z0, rows[0], columns[0]), (z1, rows[-1] + 1, columns[-1] + 1))
        values = self.volume.read_ids(native)
        values = values[:, rows[:, None] - rows[0], columns - columns[0]]
        return padded(values, inside, box, 0)

    def box_of(self, native: Box) -> Box:
        """The pixels whose centres lie in a box of voxels, and at least one along each axis."""
        z0, y0, x0 = native.start
        z1, y1, x1 = native.stop
        _, height, width = self.shape
        row_scale, column_scale = self.scale
        top = min(round(y0 * row_scale), height - 1)
        left = min(round(x0 * column_scale), width - 1)
        bottom = max(top + 1, round(y1 * row_scale))
        right = max(left + 1, round(x1 * column_scale))
        return Box((z0, top, left), (z1, bottom, right)).clip(self.shape)


def common_pixel_size(volumes: list[Volume]) -> float:
    """The coarsest in-plane pixel size among volumes, in their unit.

    No volume is enlarged then, and none loses more detail than necessary. Of a volume whose pixels
    are not square, the shorter side counts.
    """
    return max(volume.grid.pixel_size for volume in volumes)
