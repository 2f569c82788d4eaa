"""Where volumes lie in napari's world: scale, units and world coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.components import LayerList, ViewerModel
from napari.experimental import unlink_layers
from napari.layers import Image, Labels, Layer

from napari_emda._gui.common.layer_volumes import (
    ASSUMED,
    Triple,
    array_of,
    is_plain,
    is_unplaced,
    spacing_of,
    three,
    transform_of,
)
from napari_emda.data.box import Box
from napari_emda.data.units import nanometres
from napari_emda.errors import DataError

# Side in pixels of the previewed part of a section. A large screen shows about as many, and a
# larger part would take longer to predict.
LARGEST_VIEW = 1536
# Share of the canvas that a patch fills: one needs some surroundings to judge what a structure is.
WITH_SURROUNDINGS = 0.7
# The same for a whole section, which has none: as in napari's own *Reset view*.
WHOLE_SECTION = 0.95


@dataclass(frozen=True)
class Placement:
    """The position of a volume in the world: voxel size and origin along z, y, x, and their unit.

    This is all that napari stores of a layer that is neither rotated nor sheared. All layers of a
    volume get the same placement.
    """

    scale: Triple
    translate: Triple = (0, 0, 0)
    unit: str = "nm"
    axes: tuple[str, str, str] = ("z", "y", "x")

    @classmethod
    def of(cls, layer: Layer, spacing: Triple) -> Placement:
        """The placement of a layer whose voxels have a given size.

        Args:
            layer: of the user.
            spacing: voxel size (z, y, x) in nm; keeps the layer's unit if it states the same size.
        """
        scale, translate = transform_of(layer)
        # napari calls unnamed axes -3, -2, -1.
        named = layer.ndim == 3 and not layer.axis_labels[0].startswith("-")
        axes = tuple(layer.axis_labels) if named and is_plain(layer) else ("z", "y", "x")
        given = None if layer.metadata.get(ASSUMED) else spacing_of(layer)
        if given is not None and np.allclose(given[1:], spacing[1:], rtol=1e-6):
            # A single image has no thickness, so that the one that was typed is as good as any.
            flat = layer.ndim == 2
            unit = str(layer.units[-1])
            factor = nanometres(unit)
            same_units = {nanometres(str(other)) for other in layer.units} == {factor}
            if factor and same_units and (flat or math.isclose(given[0], spacing[0], rel_tol=1e-6)):
                return cls((spacing[0] / factor, scale[1], scale[2]), translate, unit, axes)
        # The layer has another voxel size: its first voxel keeps its distance from the origin,
        # counted in voxels, so that layers that lay on top of each other still do.
        origin = tuple(
            float(f"{t / s * n:.10g}") for t, s, n in zip(translate, scale, spacing, strict=True)
        )
        return cls(spacing, origin, axes=axes)  # type: ignore[arg-type]

    def arguments(self, *, corner: Sequence[float] = (0, 0, 0)) -> dict[str, Any]:
        """Arguments of a layer that shows the volume, or a part of it that starts at ``corner``."""
        origin = [t + s * c for t, s, c in zip(self.translate, self.scale, corner, strict=True)]
        return {
            "scale": self.scale,
            "translate": origin,
            "units": (self.unit,) * 3,
            "axis_labels": self.axes,
        }

    def apply(self, layer: Layer) -> bool:
        """Set a layer's unit, axis labels, scale and position; returns whether they differed."""
        layer.metadata.pop(ASSUMED, None)
        differed = False
        # Axes before z, such as times, stay as they are.
        others = max(layer.ndim - 3, 0)
        arguments = {
            key: (*getattr(layer, key)[:others], *value[-layer.ndim :])
            for key, value in self.arguments().items()
        }
        if {nanometres(str(unit)) for unit in layer.units[others:]} != {nanometres(self.unit)}:
            try:
                layer.units = arguments["units"]
            except ValueError:  # pragma: no cover - a viewer whose units the user has fixed
                return False
            differed = True
        # Part of the scale may have been in the affine transform, which acts after it.
        if not np.allclose(np.asarray(layer.affine.affine_matrix), np.eye(layer.ndim + 1)):
            layer.affine = np.eye(layer.ndim + 1)
            differed = True
        # Every assignment makes napari slice the layer again, so only differences are assigned.
        if layer.axis_labels != arguments["axis_labels"]:
            layer.axis_labels = arguments["axis_labels"]
            differed = True
        for key in ("scale", "translate"):
            if not np.allclose(getattr(layer, key), arguments[key]):
                setattr(layer, key, arguments[key])
                differed = True
        return differed

    def apply_if_unknown(self, layer: Layer) -> bool:
        """Show a layer of unknown size at the size of this volume; returns whether it was unknown.

        Beside layers in nm, one pixel would be one nm: the layer would be a dot, and napari would
        warn of units that do not fit. Its voxel size stays unknown.
        """
        if not isinstance(layer, Image | Labels) or _names_other_axes(layer):
            # Points and shapes stay where napari draws them, which takes pixels for nm. So does a
            # layer of x, y and z, which is read by the names of its axes.
            unknown = not any(nanometres(str(unit)) for unit in layer.units)
            if unknown:
                layer.units = (self.unit,) * layer.ndim
            return unknown
        if not is_unplaced(layer) or layer.metadata.get(ASSUMED):
            return False
        self.apply(layer)
        layer.metadata[ASSUMED] = True
        return True

    def within(self, viewer: ViewerModel) -> Placement:
        """The same placement in the unit of the viewer's world.

        Layers to paint or draw in need it: napari shows layers of different units at the right
        place, but interprets the mouse position in the unit of the layer.
        """
        factor = self._factor(viewer)
        if factor == 1:
            return self
        scale, translate = (
            three([factor * value for value in values], 0)
            for values in (self.scale, self.translate)
        )
        return replace(
            self, scale=scale, translate=translate, unit=str(viewer.layers.extent.units[-1])
        )

    def to_world(self, viewer: ViewerModel, index: Sequence[float]) -> Triple:
        """World coordinates of a point given in voxels."""
        factor = self._factor(viewer)
        z, y, x = (
            (i * s + t) * factor for i, s, t in zip(index, self.scale, self.translate, strict=True)
        )
        return z, y, x

    def to_index(self, viewer: ViewerModel, point: Sequence[float]) -> Triple:
        """The voxel coordinates of a point of the world."""
        factor = self._factor(viewer)
        z, y, x = (
            (p / factor - t) / s
            for p, s, t in zip(three(point, 0), self.scale, self.translate, strict=True)
        )
        return z, y, x

    def _factor(self, viewer: ViewerModel) -> float:
        """World units per unit of this placement."""
        # napari's world has the finest unit of its layers.
        units = viewer.layers.extent.units
        world_unit = nanometres(str(units[-1])) if units else None
        own_unit = nanometres(self.unit)
        # 1 for pixels, and for a viewer without layers.
        return own_unit / world_unit if own_unit and world_unit else 1.0


def _names_other_axes(layer: Layer) -> bool:
    """Whether the axes of a layer are named, and are not z, y, x."""
    is_colour = isinstance(layer, Image) and layer.rgb
    return layer.ndim <= 3 and not is_colour and not is_plain(layer)


def check_fit(source: Layer, labels: Layer, target: Layer | None) -> None:
    """Raise DataError if the labels belong to the target rather than to the source."""
    if target is None or target is source:
        return
    shapes = [tuple(array_of(layer).shape) for layer in (source, labels, target)]
    swapped = shapes[1] == shapes[2] != shapes[0]
    if shapes[0] == shapes[1] == shapes[2]:
        # Three volumes of one shape: only the voxel size can tell which two belong together.
        sizes = [spacing_of(layer) for layer in (source, labels, target)]
        swapped = None not in sizes and sizes[1] == sizes[2] != sizes[0]
    if swapped:
        raise DataError(
            f"The labels '{labels.name}' fit the target '{target.name}', not the source "
            f"'{source.name}': swap the two images, the source is the one with labels."
        )


def section_on_view(viewer: ViewerModel, placement: Placement, shape: Sequence[int]) -> Box:
    """The part of the current section to predict: at most `LARGEST_VIEW` around the centre."""
    # The sliced axes have the position of the sliders, the displayed ones that of the camera.
    world = list(viewer.dims.point)
    displayed = viewer.dims.displayed[-2:]
    for axis, value in zip(displayed, viewer.scene.camera.center[-len(displayed) :], strict=True):
        world[axis] = value
    point = placement.to_index(viewer, viewer.dims.point)
    centre = placement.to_index(viewer, world)
    z = min(max(round(point[0]), 0), shape[0] - 1) if viewer.dims.ndim > 2 else 0
    start = [z]
    stop = [z + 1]
    for middle, size in zip(centre[1:], shape[1:], strict=True):
        # Shifted rather than cut at the edge of the volume, so that the part keeps its size.
        low = min(max(round(middle) - LARGEST_VIEW // 2, 0), max(0, size - LARGEST_VIEW))
        start.append(low)
        stop.append(min(size, low + LARGEST_VIEW))
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def reslice(viewer: ViewerModel) -> None:
    """Slice all layers again, which napari fails to do when a layer gets another unit."""
    # Until the current point moves the canvas stays blank. The last axis is displayed, so moving
    # the point along it and back shows nothing else in between.
    dims = viewer.dims
    before = dims.point[-1]
    low, high, _ = dims.range[-1]
    elsewhere = low if before != low else high
    for point in (elsewhere, before):
        dims.set_point(dims.ndim - 1, point)


def show(layer: Layer) -> None:
    """Make a layer visible."""
    # Setting it on a visible layer would read its data again.
    if not layer.visible:
        layer.visible = True


def unlink_visibility(of_viewer: LayerList, layers: Iterable[Layer]) -> None:
    """Let each layer be shown alone: those that the user has linked pull each other into view."""
    for layer in layers:
        if layer in of_viewer:
            # The list's own method draws its buttons again, linked or not.
            unlink_layers([layer], ("visible",))


def show_sections(viewer: ViewerModel) -> None:
    """Show whole sections: in 2D, with the last two axes displayed, transposed or not."""
    dims = viewer.dims
    dims.ndisplay = 2
    # If the user has rolled the axes, a section would appear as a line.
    if set(dims.displayed) != {dims.ndim - 2, dims.ndim - 1}:
        dims.order = tuple(range(dims.ndim))


def look_at(
    viewer: ViewerModel,
    placement: Placement,
    box: Box,
    canvas: tuple[float, float] = (700, 700),
    share: float = WITH_SURROUNDINGS,
) -> bool:
    """Bring a box into view: its first section and its centre, nearly filling the canvas.

    Args:
        viewer: whose camera is moved.
        placement: of the volume.
        box: in voxels of the volume.
        canvas: height and width in pixels.
        share: of the canvas that the box fills, in the direction in which it fills more.

    Returns:
        Whether the section changed, so that the visible layers were read again.
    """
    before = viewer.dims.point
    show_sections(viewer)
    # The centre of voxel i is at i, so the centre of voxels a to b - 1 is at (a + b - 1) / 2.
    middle = [(a + b - 1) / 2 for a, b in zip(box.start, box.stop, strict=True)]
    world = placement.to_world(viewer, [math.floor(middle[0]), middle[1], middle[2]])
    if viewer.dims.ndim > 2:
        viewer.dims.set_point(viewer.dims.ndim - 3, world[0])
    low = placement.to_world(viewer, box.start)
    high = placement.to_world(viewer, box.stop)
    # -2 is y and -1 is x, in the order in which they are displayed.
    axes = [axis - viewer.dims.ndim for axis in viewer.dims.displayed]
    viewer.scene.camera.center = (0, *(world[axis] for axis in axes))
    viewer.scene.camera.zoom = share * min(
        side / abs(high[axis] - low[axis]) for side, axis in zip(canvas, axes, strict=True)
    )
    return viewer.dims.point != before


def look_at_section(
    viewer: ViewerModel,
    placement: Placement,
    z: int,
    shape: Sequence[int],
    canvas: tuple[float, float],
) -> None:
    """Bring a whole section of a volume of that shape into view."""
    box = Box((z, 0, 0), (z + 1, shape[1], shape[2]))
    look_at(viewer, placement, box, canvas, WHOLE_SECTION)


def section_of(viewer: ViewerModel, layer: Layer) -> int:
    """The section of a layer that is on view, as its scale is now."""
    scale, translate = transform_of(layer)
    placement = Placement(scale, translate, str(layer.units[-1]))
    return round(placement.to_index(viewer, viewer.dims.point)[0])


def stay_in_section(viewer: ViewerModel, placement: Placement, section: int | None = None) -> int:
    """Move the slider to a section of a volume, where another has sections in between.

    Args:
        viewer: the viewer, whose slider has moved.
        placement: where the volume lies.
        section: where the slider was; the next one in the direction of its move is taken, so that
            steps smaller than a section lead somewhere. None: the nearest one is taken.

    Returns:
        The section on view.
    """
    if viewer.dims.ndim < 3:
        return 0
    z, y, x = placement.to_index(viewer, viewer.dims.point)
    z = round(z, 3)  # nm that are divided by nm
    onwards = math.ceil if section is not None and z > section else math.floor
    section = round(z) if section is None else onwards(z)
    viewer.dims.set_point(viewer.dims.ndim - 3, placement.to_world(viewer, [section, y, x])[0])
    return section
