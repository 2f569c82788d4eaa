"""Labels that lie on another grid than their image, moved onto its voxels where that is exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.lazy import Lazy3D
from napari_emda.errors import DataError

Triple = tuple[float, float, float]

# Share of a voxel by which a place may miss a whole number: sizes in float32, or in a file with few
# digits, are not exact. Over the length of a volume the error of a factor adds up, so a
# factor must be a hundred times closer to a whole number.
_OFF = 0.02
_FACTOR_OFF = 2e-4


@dataclass(frozen=True)
class Placement:
    """Where the voxels of an array lie: the centre of voxel i lies at translate + i * scale.

    Attributes:
        scale: size of a voxel along z, y, x, in any unit; below 0 if the axis is flipped.
        translate: centre of the first voxel along z, y, x, in the same unit.
    """

    scale: Triple
    translate: Triple = (0.0, 0.0, 0.0)


class Placed(Lazy3D):
    """Labels on the voxels of their image, each the number of the nearest label; 0 where none lies.

    Attributes:
        covered: the box of the image's voxels on which labels lie.
    """

    def __init__(
        self, labels: Array, shape: tuple[int, int, int], indices: list[NDArray[np.int64]]
    ) -> None:
        super().__init__(shape, labels.dtype)
        self._labels = labels
        # Indices of the labels by voxel of the image; -1 outside.
        self._indices = indices
        ends = [np.flatnonzero(index >= 0)[[0, -1]] for index in indices]
        z, y, x = ((int(first), int(last) + 1) for first, last in ends)
        self.covered = Box((z[0], y[0], x[0]), (z[1], y[1], x[1]))

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        wanted = [index[part] for index, part in zip(self._indices, (z, y, x), strict=True)]
        values = np.zeros([len(index) for index in wanted], self.dtype)
        inside = [np.flatnonzero(index >= 0) for index in wanted]
        if not all(map(len, inside)):
            return values
        read = [index[where] for index, where in zip(wanted, inside, strict=True)]
        low = [int(index.min()) for index in read]
        box = tuple(slice(a, int(index.max()) + 1) for a, index in zip(low, read, strict=True))
        found = np.asarray(self._labels[box])
        values[np.ix_(*inside)] = found[
            np.ix_(*(index - a for index, a in zip(read, low, strict=True)))
        ]
        return values


def placed(
    name: str,
    labels: Array,
    where: Placement,
    shape: tuple[int, int, int],
    image: Placement,
) -> Placed | None:
    """Labels on the voxels of an image, where no voxel has to be divided.

    Labels may be moved by whole voxels of the image, and their voxels may be whole multiples or
    whole parts of the image's. Of smaller ones, that in the middle of a voxel counts.

    Args:
        name: of the labels, for the messages.
        labels: (z, y, x).
        where: the labels lie.
        shape: of the image.
        image: where its voxels lie.

    Returns:
        The labels on the image's voxels; None if they lie on them already, voxel by voxel.

    Raises:
        DataError: the labels are flipped, have another voxel size, or lie between the image's
            voxels or beside the image; the message says which.
    """
    indices = []
    for axis, letter in enumerate("zyx"):
        factor = where.scale[axis] / image.scale[axis]
        shift = (where.translate[axis] - image.translate[axis]) / image.scale[axis]
        problem = ""
        if factor < 0:
            problem = f"are flipped along {letter}"
        elif not _is_whole(max(factor, 1 / factor), _FACTOR_OFF):
            problem = f"have voxels of {factor:.4g} times the size along {letter}"
        elif (index := _indices(shape[axis], labels.shape[axis], factor, shift)) is None:
            problem = f"lie {abs(shift % 1):.2g} voxels beside its voxels along {letter}"
        elif not (index >= 0).any():
            problem = f"lie outside it along {letter}"
        if problem or index is None:
            raise DataError(
                f"The labels '{name}' do not fit the voxels of the image, they {problem}: move "
                "them by whole voxels, or resample them in the program that made them."
            )
        indices.append(index)
    if tuple(labels.shape) == shape and all(
        np.array_equal(index, np.arange(n)) for index, n in zip(indices, shape, strict=True)
    ):
        return None
    return Placed(labels, shape, indices)


def _is_whole(value: float, off: float) -> bool:
    return abs(value - round(value)) <= off * max(1.0, value)


def _indices(length: int, labels: int, factor: float, shift: float) -> NDArray[np.int64] | None:
    """The label on each voxel of an image along one axis, -1 for none; None if it is not exact.

    Args:
        length: of the image, in voxels.
        labels: their number.
        factor: size of a label over that of a voxel of the image.
        shift: from the centre of the image's first voxel to that of the first label, in voxels.
    """
    whole = max(1, round(factor))
    part = max(1, round(1 / factor))
    voxels = np.arange(length)
    # From the first edge of the image to that of the labels, in voxels of the image.
    edge = shift - (factor - 1) / 2
    if whole > 1:
        # Pyramids often state one place for the first voxel of every level, although the centres of
        # different sizes differ: half a voxel is then no shift.
        start = edge if _is_whole(edge, _OFF) else shift
        if not _is_whole(start, _OFF):
            return None
        index = np.floor_divide(voxels - round(start), whole)
    else:
        # The centre of the image's first voxel in labels; half a label is the edge between the two
        # in the middle, of which the second counts.
        first = -shift * part
        if not _is_whole(2 * first, _OFF):
            return None
        # One of an odd number of labels lies in the middle of a voxel: half a label off, and the
        # labels at the edges of every voxel would be divided.
        if round(2 * first) % 2 and part % 2:
            return None
        index = voxels * part + math.floor(round(2 * first) / 2 + 0.5)
    return np.where((index >= 0) & (index < labels), index, -1)
