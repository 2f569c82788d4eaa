"""What a reader returns: an array, and the voxel size if the file states one."""

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
        spacing: voxel size along z, y, x; None unless the file states all three.
        unit: of ``spacing``: ``nm``, or None if the file states none or one that is not a length.
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
    """The spacing and unit to use, from what a file states for z, y and x.

    Lengths are converted to ``nm``. Three numbers without a unit of length keep their ratio and get
    no unit. If a size is missing, not finite or not positive, all of them are unknown.

    Args:
        sizes: of a voxel along z, y, x.
        units: of the sizes, as the file spells them.

    Returns:
        The spacing (z, y, x), and ``nm`` or None; (None, None) if the voxel size is unknown.
    """
    # A missing size is never replaced by 1 or by the size of another axis: a wrong voxel size is
    # worse than none, because the user is asked for a missing one and never sees a wrong one.
    usable = [size for size in sizes if size is not None and math.isfinite(size) and size > 0]
    if len(usable) != 3:
        return None, None
    factors = [factor for factor in map(nanometres, units) if factor is not None]
    # TIFF stores a resolution as a rational number, so that 4.6 comes back as 4.600000000000001.
    # Ten significant digits hide that, and are finer than any microscope is calibrated.
    if len(factors) == 3:
        z, y, x = (
            float(f"{size * factor:.10g}") for size, factor in zip(usable, factors, strict=True)
        )
        return (z, y, x), "nm"
    # Lengths for some axes and not for others cannot be compared, not even as a ratio.
    if any(nanometres(unit) is not None for unit in units):
        return None, None
    z, y, x = (float(f"{size:.10g}") for size in usable)
    return (z, y, x), None
