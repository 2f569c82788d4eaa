"""What a reader returns: an array, and the voxel size as far as the file states it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.units import LARGEST_SIZE, SMALLEST_SIZE, is_uncalibrated, nanometres
from napari_emda.data.voxel_grid import Spacing

Sizes = tuple[float | None, float | None, float | None]
"""Size of a voxel along z, y, x in nm; None along the axes where it is unknown."""


class Calibration(NamedTuple):
    """What a file states about the size of its voxels.

    Attributes:
        spacing: along z, y, x; None unless all three are known.
        unit: of ``spacing``: ``nm``, or None if the file states none or one that is not a length.
        sizes: in nm, also where only some axes are known.
        remark: what the file states that cannot be a size, such as ``3 sec along z``.
    """

    spacing: Spacing | None = None
    unit: str | None = None
    sizes: Sizes = (None, None, None)
    remark: str = ""


@dataclass(frozen=True)
class Stored:
    """An image or label file, opened but not read.

    Attributes:
        array: (z, y, x), read where it is sliced.
        spacing: see `Calibration`, as the next three.
        unit: of ``spacing``.
        sizes: in nm, axis by axis.
        remark: on what the file states and cannot be a size.
        origin: position of the centre of the first voxel along z, y, x, in nm.
        notices: what was taken for the sections although the file may mean something else, one
            sentence each.
        in_colour: whether grey values are stored as equal colours; where these differ, reading them
            is a DataError.
        palette: colours (k, 3), uint8, for which the values stand, if the file has such a table.
        gap: which sections are missing in between, as a sentence.
        not_a_volume: why this may be no volume at all, as a sentence with the remedy. Of
            independent images nobody expects that they are one.
    """

    array: Array
    spacing: Spacing | None = None
    unit: str | None = None
    sizes: Sizes = (None, None, None)
    remark: str = ""
    origin: Spacing = (0.0, 0.0, 0.0)
    notices: tuple[str, ...] = ()
    gap: str = ""
    not_a_volume: str = ""
    in_colour: bool = False
    palette: NDArray[np.uint8] | None = None

    @property
    def nanometres(self) -> Spacing | None:
        """The voxel size in nm, if the file states it as a length.

        A single image has no thickness: the height of its rows is used along z.
        """
        z, y, x = self.sizes
        if z is None and self.array.shape[0] == 1:
            z = y
        return None if z is None or y is None or x is None else (z, y, x)

    def contradicts(self, spacing: Sequence[float]) -> str:
        """What the file states of the voxel size (z, y, x in nm) other than this, in words.

        Differences up to a tenth are left out: microscopes are calibrated more exactly than files
        are written. A single image has no thickness to compare.
        """
        axes = "zyx" if self.array.shape[0] > 1 else "yx"
        pairs = zip("zyx", self.sizes, spacing, strict=True)
        return ", ".join(
            f"{stated:g} nm along {axis}"
            for axis, stated, given in pairs
            if axis in axes and stated is not None and abs(stated - given) > 0.1 * given
        )


def calibrated(sizes: Sequence[float | None], units: Sequence[str | None]) -> Calibration:
    """The voxel size to use, from what a file states for z, y and x.

    Lengths are converted to ``nm``. Three numbers without a unit of length keep their ratio and get
    no unit. A size that is missing or that no voxel can have is unknown.

    Args:
        sizes: of a voxel along z, y, x.
        units: of the sizes, as the file spells them.
    """
    # A missing size is never replaced by 1 or by the size of another axis: a wrong voxel size is
    # worse than none, because the user is asked for a missing one and never sees a wrong one.
    lengths = [_length(size, unit) for size, unit in zip(sizes, units, strict=True)]
    z, y, x = lengths
    if z is not None and y is not None and x is not None:
        return Calibration((z, y, x), "nm", (z, y, x))
    remark = ", ".join(filter(None, map(_remark, sizes, units, "zyx")))
    plain = [size for size in sizes if size is not None and math.isfinite(size) and size > 0]
    # Lengths for some axes and not for others cannot be compared, not even as a ratio.
    if len(plain) < 3 or any(nanometres(unit) is not None for unit in units):
        return Calibration(sizes=(z, y, x), remark=remark)
    z, y, x = (float(f"{size:.10g}") for size in plain)
    return Calibration((z, y, x), remark=remark)


def number(text: object) -> float | None:
    """A number as a file spells it; NaN for a text that is none, and None for nothing."""
    if text is None:
        return None
    try:
        # Programs in some languages write a comma for the decimal point.
        return float(str(text).replace(",", "."))
    except ValueError:
        return math.nan


def _length(size: float | None, unit: str | None) -> float | None:
    """A size in nm; None if it is none that a voxel can have."""
    factor = nanometres(unit)
    if size is None or factor is None or not SMALLEST_SIZE <= size * factor <= LARGEST_SIZE:
        return None
    # TIFF stores a resolution as a rational number, so that 4.6 comes back as 4.600000000000001.
    # Ten significant digits hide that, and are finer than any microscope is calibrated.
    return float(f"{size * factor:.10g}")


def _remark(size: float | None, unit: str | None, axis: str) -> str:
    """What the file states for an axis, if it states something that cannot be a size."""
    if size is None or is_uncalibrated(unit) or _length(size, unit) is not None:
        return ""
    return f"{size:g} {unit} along {axis}"
