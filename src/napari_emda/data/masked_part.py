"""The cells of a volume in which a mask marks a voxel; the mask may be coarser than the volume."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from napari_emda.data.array import Array
from napari_emda.data.coverage import Coverage

# Where a voxel of the mask begins must not depend on the rounding of the ratio.
_ROUNDING = 1e-6

Ratios = tuple[float, float, float]
"""Voxels of a volume in one voxel of a mask, along z, y, x."""


def ratios_to(
    mask: tuple[int, ...],
    volume: tuple[int, ...],
    sizes: tuple[float | None, ...] = (None, None, None),
) -> Ratios | None:
    """How much coarser a mask is than a volume; None if it does not belong to it.

    Along each axis, the mask has the volume's shape, or is coarser by the ratio of the voxel sizes,
    or by a whole number; the last voxel of the mask may reach beyond the volume, or end before it.

    Args:
        mask: its shape, (z, y, x).
        volume: its shape.
        sizes: of the mask's voxels, in voxels of the volume; None where it is not known.
    """
    found = [_ratio(m, n, size) for m, n, size in zip(mask, volume, sizes, strict=True)]
    z, y, x = found
    return None if z is None or y is None or x is None else (z, y, x)


def _ratio(mask: int, volume: int, size: float | None) -> float | None:
    if mask == volume:
        return 1.0
    # Half a voxel of the mask, and at least one of the volume, are lost to rounding.
    if size is not None and size > 1 and abs(mask * size - volume) <= max(1, size):
        return size
    whole = max(1, round(volume / mask))
    return float(whole) if mask in (volume // whole, -(-volume // whole)) else None


def marked(mask: Array, ratios: Ratios, within: Coverage) -> Coverage:
    """The cells of a part of a volume in which a mask is not 0.

    The mask is read once, in strips of rows, and only where the part lies.

    Args:
        mask: (z, y, x).
        ratios: of the mask, see `ratios_to`.
        within: the part, in cells.
    """
    cells = np.zeros_like(within.cells)
    for z in range(mask.shape[0]):
        sections = slice(*_voxels(z, z + 1, ratios[0]))
        wanted = within.cells[sections]
        for row in np.flatnonzero(wanted.any((0, 2))).tolist():
            top, bottom = _of_mask(within.rows[row], within.rows[row + 1], ratios[1])
            strip = np.asarray(mask[z : z + 1, top:bottom])
            counts = np.append(0, np.cumsum((strip != 0).any((0, 1))))
            ends = [
                _of_mask(left, right, ratios[2])
                for left, right in pairwise(within.columns.tolist())
            ]
            first, stop = np.minimum(np.array(ends).T, len(counts) - 1)
            cells[sections, row] |= counts[stop] > counts[first]
    return Coverage(within.rows, within.columns, cells & within.cells)


def _voxels(first: int, stop: int, ratio: float) -> tuple[int, int]:
    """Voxels of the volume that some voxels of the mask touch."""
    return math.floor(first * ratio + _ROUNDING), math.ceil(stop * ratio - _ROUNDING)


def _of_mask(first: int, stop: int, ratio: float) -> tuple[int, int]:
    """Voxels of the mask that touch some voxels of the volume."""
    return math.floor(first / ratio + _ROUNDING), math.ceil(stop / ratio - _ROUNDING)
