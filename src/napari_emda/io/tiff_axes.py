"""What the axes of a TIFF mean, which programs label in many ways."""

from __future__ import annotations

from pathlib import Path

import tifffile

from napari_emda.data.array import Array
from napari_emda.io.location import Part, SeveralImages

# Fiji and many scripts store a plain stack along the channel axis, so a longer "channel" axis is
# taken for sections. Images seldom have more than 4 channels, and volumes seldom so few sections.
MOST_CHANNELS = 4

# The kinds of TIFF in which tifffile makes a new series wherever pages differ in anything.
PLAIN_KINDS = ("generic", "uniform", "shaped")


def samples(series: tifffile.TiffPageSeries) -> int:
    """Values per pixel: 1 in grey images."""
    return dict(zip(series.axes, series.shape, strict=True)).get("S", 1)


def is_stack_of_planes(series: tifffile.TiffPageSeries) -> bool:
    """Whether colour planes, one after the other, are rather the sections of a stack.

    tifffile writes three or four sections of uint8 as RGB or RGBA unless it is told not to. Colour
    images have their colours pixel by pixel almost always.
    """
    return series.axes == "SYX" and series.kind in PLAIN_KINDS


def ends_in_ones(series: tifffile.TiffPageSeries) -> bool | None:
    """Whether axes of length one follow y and x, as for a single channel in Python.

    None, as tifffile's "as it is", if not: the axes of other files are taken as they are stated.
    """
    letters, _ = _squeezed(series)
    return True if series.shape[-1] == 1 and letters.endswith("YX") else None


def _squeezed(series: tifffile.TiffPageSeries) -> tuple[str, tuple[int, ...]]:
    """Letters and lengths of the axes, without those of length one but for y and x.

    Older versions of tifffile say it as ``get_axes(True)``, newer ones have no such method.
    """
    axes = zip(series.axes, series.shape, strict=True)
    kept = [(letter, n) for letter, n in axes if n > 1 or letter in "YX"]
    return "".join(letter for letter, _ in kept), tuple(n for _, n in kept)


def shape_of(series: tifffile.TiffPageSeries) -> tuple[int, ...]:
    """Lengths of the axes that `axis_names` names."""
    return _squeezed(series)[1] if ends_in_ones(series) else series.shape


def axis_names(series: tifffile.TiffPageSeries, part: Part, path: Path) -> list[str]:
    """Names of the axes; what is used as the sections is called z.

    Args:
        series: the image.
        part: what is chosen along its axes.
        path: of the file, for the message.

    Raises:
        SeveralImages: a few channels, which may be sections.
    """
    letters = (_squeezed(series)[0] if ends_in_ones(series) else series.axes).lower()
    # Axes of which nothing is known have the same letter.
    names = [
        f"axis{axis}" if letters.count(name) > 1 else name for axis, name in enumerate(letters)
    ]
    shape = shape_of(series)
    if is_stack_of_planes(series):
        return ["z", *names[1:]]
    long_axes = [
        axis
        for axis, (name, n) in enumerate(zip(names, shape, strict=True))
        if n > 1 and name not in "yxs" and name not in part.at
    ]
    if len(long_axes) != 1 or names[long_axes[0]] == "z":
        return names
    (axis,) = long_axes
    count = shape[axis]
    if names[axis] == "c" and count <= MOST_CHANNELS:
        raise SeveralImages.along(
            f"{path.name} has {count} channels, but a volume has one: choose one by its number "
            f"from 0 on, as in '{path.name}?channel=0', or, if they are {count} sections, set "
            f"channels to 1 and slices to {count} in Fiji (Image > Properties) and save it again.",
            part,
            {"c": count},
            shape,
        )
    # An axis of one section gives its name to the one that holds them.
    names = ["one" if name == "z" else name for name in names]
    names[axis] = "z"
    return names


def notices(
    series: tifffile.TiffPageSeries, array: Array, part: Part, path: Path
) -> tuple[str, ...]:
    """What was taken for the sections, where the file calls it something else."""
    count = array.shape[0]
    if is_stack_of_planes(series):
        return (f"The {count} colour planes of {path.name} are read as {count} sections.",)
    names = {"C": "channels", "T": "time points"}
    long = [
        names[axis]
        for axis, n in zip(series.axes, series.shape, strict=True)
        if axis in names and n > 1 and axis.lower() not in part.at
    ]
    return tuple(f"The {count} {name} of {path.name} are read as sections." for name in long)
