"""What a file gives: an array, and the voxel size if the file states one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from napari_emda.data.volume import Array

Spacing = tuple[float, float, float]

_NANOMETRES = {
    "pm": 1e-3,
    "picometer": 1e-3,
    "a": 0.1,
    "angstrom": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "um": 1e3,
    "micron": 1e3,
    "micrometer": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "in": 2.54e7,
    "inch": 2.54e7,
    "m": 1e9,
    "meter": 1e9,
}

# Both code points of the micro sign, ImageJ's escape of it, and the letter with the ring.
_SPELLINGS = {"\\u00b5": "u", "\u00b5": "u", "\u03bc": "u", "\u00e5": "a", "metre": "meter"}


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


def nanometres(unit: str | None) -> float | None:
    r"""Nanometres in one ``unit`` of length, however it is spelt; None when it is not a length.

    >>> nanometres("micron"), nanometres("\u00b5m"), nanometres("pixel")
    (1000.0, 1000.0, None)
    """
    name = (unit or "").strip().lower()
    for spelling, plain in _SPELLINGS.items():
        name = name.replace(spelling, plain)
    return _NANOMETRES.get(
        name, _NANOMETRES.get(name.removesuffix("s"), _NANOMETRES.get(name.removesuffix("es")))
    )


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
