"""Axes of the image and of the output in bioimage.io descriptions 0.4 and 0.5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_emda.data.units import LARGEST_SIZE, SMALLEST_SIZE, nanometres

PLANE = "yx"
# Pixels of a side of what a network takes, and of the steps in which it may grow.
_LARGEST_SIDE = 4096
_TYPES = {"batch": "b", "channel": "c"}
_NAMES = {"batch": "b", "channel": "c", "index": "i", "time": "t"}


@dataclass(frozen=True)
class Side:
    """Lengths that an axis may have: ``smallest``, and any number of ``step`` more; 0 for none."""

    smallest: int
    step: int = 0


@dataclass(frozen=True)
class InputAxes:
    """Axes of what a network takes.

    Attributes:
        order: letters of the axes, such as ``bcyx``.
        sides: lengths along z, y, x; one section for a network that sees single ones.
        pixel_size: at which it works in nm; None if the description does not say it.
        section_distance: from one section to the next, likewise.
    """

    order: str
    sides: tuple[Side, Side, Side]
    pixel_size: float | None = None
    section_distance: float | None = None

    @property
    def deep(self) -> bool:
        """Whether it sees several sections."""
        return self.sides[0] != Side(1)


@dataclass(frozen=True)
class OutputAxes:
    """Axes of what a network returns.

    Attributes:
        order: letters of the axes.
        lost: pixels along z, y, x that the output lacks at each edge.
        halo: more pixels at each edge that are not to be used; None where the description says
            none.
    """

    order: str
    lost: tuple[int, ...]
    halo: tuple[int | None, ...]


def input_axes(tensor: Mapping[str, Any]) -> InputAxes:
    """The axes of an input.

    Raises:
        ValueError: they are not those of a grey section or volume, as the end of a sentence.
    """
    old = _is_old(tensor["axes"])
    order = _order(tensor["axes"])
    _check_plane(order, "image")
    if old:
        shape = tensor["shape"]
        minima = shape["min"] if isinstance(shape, dict) else shape
        steps = shape["step"] if isinstance(shape, dict) else [0] * len(order)
        lengths = {a: Side(int(m), int(s)) for a, m, s in zip(order, minima, steps, strict=True)}
        pixel_size = distance = None
    else:
        lengths = {_letter(axis): _side(axis, tensor["axes"]) for axis in tensor["axes"]}
        pixel_size, distance = _pixel_size(tensor["axes"])
    channels = lengths.get("c", Side(1))
    if channels.smallest != 1:
        raise ValueError(
            f"takes images of {channels.smallest} channels, and electron microscopy has one"
        )
    for name in "it":
        if lengths.get(name, Side(1)) != Side(1):
            raise ValueError("takes series of images, and only sections and volumes are read")
    sides = (lengths.get("z", Side(1)), lengths["y"], lengths["x"])
    for side in sides:
        if not (1 <= side.smallest <= _LARGEST_SIDE and 0 <= side.step <= _LARGEST_SIDE):
            raise ValueError(f"takes images of sides that cannot be right ({side.smallest})")
    return InputAxes(order, sides, pixel_size, distance)


def output_axes(
    tensor: Mapping[str, Any], of_input: Mapping[str, Any], axes: InputAxes
) -> OutputAxes:
    """The axes of an output, which must have the pixels of the input.

    Args:
        tensor: the output.
        of_input: the input.
        axes: of the input.

    Raises:
        ValueError: they are others, as the end of a sentence.
    """
    order = _order(tensor["axes"])
    _check_plane(order, "output")
    if axes.deep and "z" not in order:
        raise ValueError("returns sections for volumes")
    names = "zyx" if axes.deep else PLANE
    if _is_old(tensor["axes"]):
        lost = [_lost_old(tensor, order, axes, name) for name in names]
        halos = tensor.get("halo")
        halo = [None if halos is None else int(halos[order.index(name)]) for name in names]
    else:
        by_name = {_letter(axis): axis for axis in tensor["axes"]}
        seen = {_letter(axis): axis for axis in of_input["axes"]}
        lost = [_lost(by_name[name], seen[name], axes, name) for name in names]
        given = [by_name[name].get("halo") for name in names]
        halo = [None if number is None else int(number) for number in given]
    if not all(0 <= number <= _LARGEST_SIDE and number % 2 == 0 for number in lost):
        raise ValueError("returns an output whose pixels are not those of the image")
    if not all(number is None or 0 <= number <= _LARGEST_SIDE for number in halo):
        raise ValueError("states a halo that cannot be right")
    flat = not axes.deep
    return OutputAxes(order, (0,) * flat + tuple(n // 2 for n in lost), (0,) * flat + tuple(halo))


def _is_old(axes: Any) -> bool:
    """Whether axes are written as in version 0.4: as letters, or as a list of names."""
    return isinstance(axes, str) or isinstance(axes[0], str)


def _order(axes: Any) -> str:
    if _is_old(axes):
        return "".join(_NAMES.get(name, name)[0] for name in axes)
    return "".join(map(_letter, axes))


def _letter(axis: Mapping[str, Any]) -> str:
    kind = str(axis.get("type", ""))
    return _TYPES.get(kind) or str(axis.get("id", _NAMES.get(kind, "")))[:1]


def _check_plane(order: str, what: str) -> None:
    if len(set(order)) != len(order) or not set(PLANE) <= set(order) or set(order) - set("bczyxit"):
        raise ValueError(
            f"has an {what} with the axes '{order}', and sections have rows (y) and columns (x)"
        )


def _side(axis: Mapping[str, Any], axes: Any, depth: int = 0) -> Side:
    """The lengths of an axis in version 0.5."""
    if axis.get("type") == "channel":
        return Side(len(axis["channel_names"]))
    size = axis.get("size")
    if size is None:
        return Side(1)
    if isinstance(size, int):
        return Side(size)
    if "step" in size:
        return Side(int(size["min"]), int(size["step"]))
    if "axis_id" in size and depth < len(axes):
        other = next(a for a in axes if a.get("id") == size["axis_id"])
        side = _side(other, axes, depth + 1)
        return Side(side.smallest + int(size.get("offset", 0)), side.step)
    raise ValueError("takes images whose sides depend on what is in them")


def _pixel_size(axes: Any) -> tuple[float | None, float | None]:
    """The pixel size and the distance of sections in nm; None without a unit.

    Raises:
        ValueError: pixels are not square, or no length.
    """
    sizes = []
    distance = None
    for axis in axes:
        factor = nanometres(axis.get("unit"))
        if _letter(axis) in PLANE and factor is not None:
            sizes.append(float(axis.get("scale", 1.0)) * factor)
        elif _letter(axis) == "z" and factor is not None:
            distance = float(axis.get("scale", 1.0)) * factor
    if len(sizes) < len(PLANE):
        return None, None
    if max(sizes) > 1.01 * min(sizes):
        raise ValueError("works on pixels that are not square")
    for size in (sizes[0], sizes[0] if distance is None else distance):
        if not SMALLEST_SIZE <= size <= LARGEST_SIZE:
            raise ValueError(f"works on voxels of {size:g} nm, which cannot be right")
    return sizes[0], distance


def _lost_old(tensor: Mapping[str, Any], order: str, axes: InputAxes, name: str) -> int:
    """Pixels that the output lacks along an axis, at both edges together; version 0.4."""
    shape = tensor["shape"]
    index = order.index(name)
    if not isinstance(shape, dict):
        return _of_fixed(axes, name, int(shape[index]))
    if float(shape["scale"][index]) != 1:
        raise ValueError("returns an output of another pixel size than that of the image")
    return round(-2 * float(shape["offset"][index]))


def _lost(axis: Mapping[str, Any], seen: Mapping[str, Any], axes: InputAxes, name: str) -> int:
    """As `_lost_old`, of version 0.5."""
    size = axis["size"]
    if float(axis.get("scale", 1.0)) != float(seen.get("scale", 1.0)):
        raise ValueError("returns an output of another pixel size than that of the image")
    if isinstance(size, int):
        return _of_fixed(axes, name, size)
    if "axis_id" not in size:
        raise ValueError("returns an output whose size depends on the image")
    return -int(size.get("offset", 0))


def _of_fixed(axes: InputAxes, name: str, size: int) -> int:
    side = axes.sides["zyx".index(name)]
    if side.step:
        raise ValueError("returns an output of one size for images of any size")
    return side.smallest - size
