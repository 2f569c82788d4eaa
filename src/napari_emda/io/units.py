"""What a file gives: an array, and the voxel size if the file states one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from napari_emda.data.array import Array
from napari_emda.data.units import nanometres
from napari_emda.data.voxel_grid import Spacing


@dataclass(frozen=True)
class Stored:
    """An image or label file, opened but not read.

    Attributes:
        array: (z, y, x), read where it is sliced.
        spacing: voxel size along z, y, x; None where the file does not state all three.
        unit: of ``spacing``: ``nm``, or None where the file gives none or one that is not a length.
    """

    array: Array
    spacing: Spacing | None = None
    unit: str | None = None

    @property
    def nanometres(self) -> Spacing | None:
        """The voxel size in nm, if the file states it as a length."""
        return self.spacing if self.unit == "nm" else None


def calibrated(
    sizes: Sequence[float | None], units: Sequence[str | None]
) -> tuple[Spacing, str | None] | tuple[None, None]:
    """The spacing and unit to believe, from what a file says for z, y and x.

    Lengths come back in ``nm``. Three numbers without a unit of length keep their ratio and get no unit. A size that
    is missing, not finite or not positive makes all of them unknown: none is ever invented.
    """
    known = [size for size in sizes if size is not None and math.isfinite(size) and size > 0]
    if len(known) != 3:
        return None, None
    factors = [factor for factor in map(nanometres, units) if factor is not None]
    # Ten significant digits hide the rational numbers in which TIFF stores a resolution: 4.6, not 4.600000000000001.
    if len(factors) == 3:
        z, y, x = (
            float(f"{size * factor:.10g}") for size, factor in zip(known, factors, strict=True)
        )
        return (z, y, x), "nm"
    if any(nanometres(unit) is not None for unit in units):
        return None, None
    z, y, x = (float(f"{size:.10g}") for size in known)
    return (z, y, x), None
