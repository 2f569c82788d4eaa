"""Units of length in all their spellings."""

from __future__ import annotations

import re
import unicodedata

# Nanometres in one unit, by the names that TIFF, OME and ImageJ use.
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

# What files state for "not calibrated". These are no mistakes, unlike a unit of another quantity.
_UNCALIBRATED = {"", "pixel", "px", "voxel", "vx", "reference frame"}

# The letters that NFKC makes of the signs for micro and \u00e5ngstr\u00f6m, and British English.
_SPELLINGS = {"\u03bc": "u", "\u00e5": "a", "\u00f6": "o", "metre": "meter"}

# Sizes in nm that a voxel can have. Below is less than a hundredth of an atom, above more than a
# whole specimen: such numbers come from a default, an overflow or a wrong unit.
SMALLEST_SIZE = 1e-3
LARGEST_SIZE = 1e7


def nanometres(unit: str | None) -> float | None:
    r"""Nanometres in one ``unit`` of length, however it is spelt; None when it is not a length.

    >>> nanometres("micron"), nanometres("\u00b5m"), nanometres("pixel")
    (1000.0, 1000.0, None)
    """
    name = _plain(unit)
    # "microns" and "inches", but "s" is no unit itself.
    for singular in (name, name.removesuffix("s"), name.removesuffix("es")):
        if singular in _NANOMETRES:
            return _NANOMETRES[singular]
    return None


def is_uncalibrated(unit: str | None) -> bool:
    """Whether a unit says that the size is not known, as "pixel" does; a time does not."""
    name = _plain(unit)
    # "pixels", but "s" is a time.
    return name in _UNCALIBRATED or name.removesuffix("s") in _UNCALIBRATED - {""}


def _plain(unit: str | None) -> str:
    """A unit in lower case and in plain letters."""
    # ImageJ writes all letters beyond ASCII as \uXXXX.
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), unit or "")
    # Some programs keep the quotes, or the zero byte that ends a text in C. "Micron" and "NM"
    # occur. "Mm" is then read as mm, but no image has megametres.
    name = unicodedata.normalize("NFKC", text).strip(" \t\"'\0").lower()
    for spelling, plain in _SPELLINGS.items():
        name = name.replace(spelling, plain)
    return name
