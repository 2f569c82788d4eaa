"""Arrays of any number of axes as volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_emda.data.lazy import AxisView
from napari_emda.errors import DataError, listed
from napari_emda.io.location import Part, SeveralImages, axis_word
from napari_emda.io.raw_voxels import RawVoxels


def _unnamed(shape: tuple[int, ...]) -> list[str]:
    """Names of axes of which a file says nothing: y and x at the end, numbers for the others."""
    names = [f"axis{number}" for number in range(len(shape))]
    # Programs that have channels write the only one of them behind x.
    last = len(shape) - (len(shape) > 2 and shape[-1] == 1)
    names[last - 2 : last] = ["y", "x"]
    return names


class Layout(NamedTuple):
    """Which axes of an array are those of a volume.

    Attributes:
        sections: index of the axis z; None for a single section.
        rows: index of the axis y.
        columns: index of the axis x.
        chosen: position along other axes, by their index; 0 along those that are missing.
    """

    sections: int | None
    rows: int
    columns: int
    chosen: dict[int, int]


def volume_of(
    array: Any, names: Sequence[str] | None, part: Part, file: str, *, also: Sequence[str] = ()
) -> AxisView:
    """See an array as (z, y, x), without axes of length one and at the chosen channel and time.

    Args:
        array: as stored, read where it is sliced.
        names: see `layout`, as all that follow.
        part: likewise.
        file: likewise.
        also: likewise.

    Raises:
        DataError: see `layout`.
    """
    found = layout(tuple(array.shape), names, part, file, also=also)
    return AxisView(
        array, found.sections, rows=found.rows, columns=found.columns, chosen=found.chosen
    )


def raw_volume(
    path: Path,
    shape: tuple[int, ...],
    names: Sequence[str] | None,
    part: Part,
    dtype: np.dtype[Any],
    offset: int,
    *,
    also: Sequence[str] = (),
) -> RawVoxels:
    """The same for voxels that follow each other in a file, the last axis first.

    Args:
        path: of the file.
        shape: of the array in it.
        names: see `layout`; the last two axes are y and x.
        part: see `layout`.
        dtype: of the voxels, with their order of bytes.
        offset: of the first voxel, in bytes.
        also: see `layout`.

    Raises:
        DataError: see `layout`, or the end of the file is missing.
    """
    found = layout(shape, names, part, path.name, also=also)
    # Axes of length one may stand anywhere.
    used = [found.sections, found.rows, found.columns]
    left = [axis for axis, n in enumerate(shape) if n > 1 or axis in used]
    if left[-2:] != [found.rows, found.columns]:
        raise DataError(
            f"{path.name} stores its axes in an order that cannot be read: save it with y and x "
            "at the end."
        )
    rows, columns = (shape[axis] for axis in left[-2:])
    # Of sections, from a position along an axis to the next one.
    strides = [math.prod(shape[k] for k in left[:-2] if k > axis) for axis in range(len(shape))]
    first = sum(strides[axis] * position for axis, position in found.chosen.items())
    offset += first * rows * columns * dtype.itemsize
    count = 1 if found.sections is None else shape[found.sections]
    stride = 1 if found.sections is None else strides[found.sections]
    return RawVoxels(path, (count, rows, columns), dtype, offset, stride).check_complete()


def layout(
    shape: tuple[int, ...],
    names: Sequence[str] | None,
    part: Part,
    file: str,
    *,
    also: Sequence[str] = (),
) -> Layout:
    """Find the axes of a volume in an array of any number of axes.

    Args:
        shape: of the array.
        names: of its axes, in lower case; None if the file does not name them. Then the last two
            are y and x, and the only long one in front of them holds the sections.
        part: the positions along other axes.
        file: its name, for messages.
        also: further words that may be chosen, which the caller has seen to.

    Raises:
        DataError: too few or too many axes, colours, or a choice that the file does not have.
    """
    if len(shape) < 2:
        raise DataError(
            f"{file} has {len(shape)} axis, but a volume has z, y and x: choose an image."
        )
    # Axes without names: RGB and RGBA (y, x, 3 or 4) are recognised by their shape, because volumes
    # are hardly ever three or four pixels wide. Tiny ones, with at most 4 sections, pass.
    if names is None and len(shape) == 3 and shape[-1] in (3, 4) and shape[0] > 4:
        raise DataError(f"{file} looks like a colour image {shape}: convert it to grey values.")
    has_names = names is not None
    names = _unnamed(shape) if names is None else [name.lower() for name in names]
    if len(names) != len(shape) or len(set(names)) != len(names) or not {"y", "x"} <= set(names):
        raise DataError(
            f"{file} describes the axes {', '.join(names)}, which its data of shape {shape} do not "
            "have: write it again."
        )
    others = [axis for axis, name in enumerate(names) if name not in "zyx"]
    part.only(*(names[axis] for axis in others), *also, file=file)
    chosen = _chosen(names, shape, part, file)
    sections = names.index("z") if "z" in names else None
    left = [axis for axis in others if shape[axis] > 1 and axis not in chosen]
    if sections is None and len(left) == 1 and not has_names:
        sections = left.pop()
    if left:
        raise _too_many(names, shape, left, part, file)
    return Layout(sections, names.index("y"), names.index("x"), chosen)


def _chosen(names: Sequence[str], shape: tuple[int, ...], part: Part, file: str) -> dict[int, int]:
    """Positions by axis."""
    chosen = {axis: part.at[name] for axis, name in enumerate(names) if name in part.at}
    for axis, position in chosen.items():
        if position >= shape[axis]:
            raise DataError(
                f"{file} has the {axis_word(names[axis])}s 0 to {shape[axis] - 1}, and "
                f"{position} is none of them: choose another one."
            )
    return chosen


def _too_many(
    names: Sequence[str], shape: tuple[int, ...], left: Sequence[int], part: Part, file: str
) -> SeveralImages:
    """The question which of several images is meant."""
    sizes = ", ".join(f"{axis_word(name)} {n}" for name, n in zip(names, shape, strict=True))
    # Without names, the last of the long axes holds the sections.
    if names[left[0]].startswith("axis"):
        left = left[:-1] or left
    words = [axis_word(names[axis]) for axis in left]
    choice = "&".join(f"{word}=0" for word in words)
    wanted = listed([f"position of {w}" if w.startswith("axis") else w for w in words])
    return SeveralImages.along(
        f"{file} has {len(shape)} axes ({sizes}), but a volume has z, y and x: choose one "
        f"{wanted} by its number from 0 on, as in '{file}?{choice}'.",
        part,
        {names[axis]: shape[axis] for axis in left},
        shape,
    )
