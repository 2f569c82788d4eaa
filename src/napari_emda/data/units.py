"""Units of length in all their spellings."""

from __future__ import annotations

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

# Both code points of the micro sign, ImageJ's escape of it, and the letter with the ring.
_SPELLINGS = {"\\u00b5": "u", "\u00b5": "u", "\u03bc": "u", "\u00e5": "a", "metre": "meter"}


def nanometres(unit: str | None) -> float | None:
    r"""Nanometres in one ``unit`` of length, however it is spelt; None when it is not a length.

    >>> nanometres("micron"), nanometres("\u00b5m"), nanometres("pixel")
    (1000.0, 1000.0, None)
    """
    # "Micron" and "NM" occur. "Mm" is then read as mm, but no image has megametres.
    name = (unit or "").strip().lower()
    for spelling, plain in _SPELLINGS.items():
        name = name.replace(spelling, plain)
    # "microns" and "inches", but "s" is no unit itself.
    for singular in (name, name.removesuffix("s"), name.removesuffix("es")):
        if singular in _NANOMETRES:
            return _NANOMETRES[singular]
    return None
