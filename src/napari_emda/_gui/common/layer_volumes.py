"""A layer of napari seen as a volume (z, y, x): its axes, voxels, voxel size and file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Labels, Layer
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.label_values import whole_numbers
from napari_emda.data.lazy import Lazy3D
from napari_emda.data.units import nanometres
from napari_emda.errors import DataError, EmdaError
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.readers.sections import not_sections
from napari_emda.io.units import Sizes, Stored

Triple = tuple[float, float, float]
# Key of `Layer.metadata`: the layer was placed by us, and nobody has stated its voxel size.
ASSUMED = "napari-emda: voxel size assumed"
# Key of `Layer.metadata`: which image of the layer's file it shows, see `io.location`.
PART = "napari-emda: part of the file"
# The files of layers that the dock has opened. Not in their metadata, which napari copies with a
# layer: the copy may be changed.
_FILES: WeakKeyDictionary[Layer, str] = WeakKeyDictionary()
# Pixels between those that are compared to tell grey from colour, along y and x.
_GREY_STEP = 8


def refusal(layer: Layer) -> str | None:
    """Why a layer cannot be used as a volume; None if it can.

    The text completes a sentence that begins with the name of the layer.
    """
    if isinstance(layer, Image) and layer.rgb and not _seems_grey(layer):
        return "is a colour image: convert it to grey values, or save labels as numbers"
    axes = _axes(layer)
    if isinstance(axes, str):
        return axes
    # All computations use voxel indices and a scale, so a rotated layer would be shown wrongly.
    linear = np.asarray(layer.affine.linear_matrix)
    if not (
        np.allclose(layer.rotate, np.eye(layer.ndim))
        and np.allclose(layer.shear, 0)
        and np.allclose(linear, np.diag(np.diag(linear)))
    ):
        return "is rotated or sheared: reset its transform, or resample it along its axes"
    return None


def is_unplaced(layer: Layer) -> bool:
    """Whether a layer lies where napari puts layers of which it knows nothing."""
    if layer.metadata.get(ASSUMED):
        return True
    lengths = any(nanometres(unit) is not None for unit in units_of(layer))
    return not lengths and transform_of(layer) == ((1, 1, 1), (0, 0, 0))


def is_plain(layer: Layer) -> bool:
    """Whether a layer's own axes are z, y, x or y, x, so that it can show the volume itself."""
    rgb = isinstance(layer, Image) and layer.rgb
    return not rgb and layer.ndim <= 3 and _axes(layer) == tuple(range(layer.ndim))


def array_of(layer: Layer) -> Array:
    """The voxels of a layer as (z, y, x), at the finest level."""
    data = finest(layer)
    if is_plain(layer) and layer.ndim == 3:
        whole: Array = data
        return whole
    axes = _axes(layer)
    if isinstance(axes, str):
        raise DataError(f"'{layer.name}' {axes}.")
    return _LayerView(data, axes, layer.name if isinstance(layer, Image) and layer.rgb else None)


def numbers_of(layer: Layer) -> Array:
    """The voxels of labels as (z, y, x), see `data.label_values.whole_numbers`."""
    of_palette = palette_numbers(layer)
    return whole_numbers(array_of(layer), layer.name) if of_palette is None else of_palette


def palette_numbers(layer: Layer) -> Array | None:
    """The numbers of labels that were saved with a table of colours; None for other layers.

    napari shows the colours, and keeps the numbers in the file only.
    """
    path = location_of(layer)
    if not isinstance(layer, Image) or not layer.rgb or path is None:
        return None
    try:
        stored = open_labels(path)
    except (EmdaError, OSError, ValueError):
        return None
    same = tuple(stored.array.shape) == _volume_shape(layer)
    return stored.array if stored.palette is not None and same else None


def _volume_shape(layer: Layer) -> tuple[int, ...]:
    """Shape (z, y, x) of a layer that shows a volume."""
    return tuple(([1] + [int(n) for n in _of_volume(layer, _shape(layer))])[-3:])


def transform_of(layer: Layer) -> tuple[Triple, Triple]:
    """Scale and position of a layer along z, y, x of its volume, in the layer's units.

    napari has two places for them, of which the affine transform acts last.
    """
    linear = np.diag(np.asarray(layer.affine.linear_matrix))
    scale = linear * np.asarray(layer.scale)
    translate = linear * np.asarray(layer.translate) + np.asarray(layer.affine.translate)
    return three(_of_volume(layer, scale), 1), three(_of_volume(layer, translate), 0)


def units_of(layer: Layer) -> tuple[str, str, str]:
    """Units along z, y, x of a layer's volume; a single image has that of y along z."""
    units = [str(unit) for unit in _of_volume(layer, layer.units)]
    z, y, x = ([units[0]] * 3 + units)[-3:]
    return z, y, x


def sizes_of(layer: Layer) -> Sizes:
    """Voxel size in nm along z, y, x, as far as the layer or its file states it.

    A single image has no thickness: its row height is used along z.
    """
    if layer.metadata.get(ASSUMED):
        return _sizes_in_file(layer)
    scale = transform_of(layer)[0]
    factors = [nanometres(str(unit)) for unit in _of_volume(layer, layer.units)]
    sizes: list[float | None] = [
        None if factor is None else float(f"{abs(size) * factor:.10g}")
        for size, factor in zip(scale[-len(factors) :], factors, strict=True)
    ]
    if all(size is None for size in sizes):
        # napari's own TIFF reader drops the voxel size, so the file may state it.
        return _sizes_in_file(layer)
    if len(sizes) == 2:
        sizes.insert(0, sizes[0])
    z, y, x = sizes
    return z, y, x


def spacing_of(layer: Layer) -> Triple | None:
    """Voxel size in nm (z, y, x) as the layer or its file states it; None if it is incomplete."""
    z, y, x = sizes_of(layer)
    return None if z is None or y is None or x is None else (z, y, x)


def file_of(layer: Layer) -> Stored | None:
    """The file from which a layer was opened; None if it has another shape, or there is none."""
    path = location_of(layer)
    if path is None:
        return None
    try:
        stored = open_image(path)
        same = tuple(stored.array.shape) == tuple(array_of(layer).shape)
    except (EmdaError, OSError, ValueError):
        return None
    return stored if same else None


def not_a_volume(layer: Layer) -> str:
    """Why a folder that napari has opened is no volume; empty if it may be, and for files."""
    path = source_of(layer)
    # What this package reads itself is checked with its file.
    if path is None or not Path(path).is_dir() or file_of(layer) is not None:
        return ""
    return not_sections(Path(path))


def stored_of(layer: Layer) -> Stored | None:
    """The file that a layer shows unchanged; None for layers that exist in memory only."""
    stored = file_of(layer)
    if stored is None:
        return None
    try:
        array = stored.array
        shown = array_of(layer)
        if np.dtype(array.dtype) != np.dtype(shown.dtype):
            return None
        # The layer may have been edited since it was opened. Comparing two sections is quick even
        # on a network drive, and finds what changes whole volumes, such as a filter.
        same = all(np.array_equal(array[z], np.asarray(shown[z])) for z in {0, array.shape[0] // 2})
    except (EmdaError, OSError, ValueError):
        return None
    return stored if same else None


def path_of(layer: Layer) -> Path | None:
    """The path of `stored_of`."""
    return None if stored_of(layer) is None else location_of(layer)


def location_of(layer: Layer) -> Path | None:
    """Where a layer was opened from, with the part of the file; None if it was not."""
    path = source_of(layer)
    return None if path is None else Path(f"{path}{layer.metadata.get(PART, '')}")


def source_of(layer: Layer) -> str | None:
    """The file or folder that a layer was opened from; None if it was not."""
    path: str | None = layer.source.path or _FILES.get(layer)
    return path


def note_source(layer: Layer, file: Path) -> None:
    """Note from which file the dock has opened a layer."""
    _FILES[layer] = str(file)


def three(values: Sequence[float], fill: float) -> Triple:
    """The last three entries, with ``fill`` in front if there are fewer."""
    z, y, x = ([fill] * 3 + [float(value) for value in values])[-3:]
    return z, y, x


def _sizes_in_file(layer: Layer) -> Sizes:
    stored = stored_of(layer)
    return (None, None, None) if stored is None else stored.nanometres or stored.sizes


def finest(layer: Layer) -> Any:
    """The array of a layer, at its finest level."""
    multiscale = isinstance(layer, Image | Labels) and layer.multiscale
    return layer.data[0] if multiscale else layer.data


def _shape(layer: Layer) -> tuple[int, ...]:
    """Entries along the axes that napari counts, which are all but the colours'."""
    return tuple(finest(layer).shape[: layer.ndim])


def _of_volume(layer: Layer, values: Sequence[Any]) -> list[Any]:
    """Those of a layer's values, one per axis, that belong to z, y, x."""
    axes = _axes(layer)
    kept = range(layer.ndim)[-3:] if isinstance(axes, str) else axes
    return [values[axis] for axis in kept]


def _axes(layer: Layer) -> tuple[int, ...] | str:
    """The axes of a layer that are z (unless it is a single image), y and x; or why not."""
    shape = _shape(layer)
    names = [label.lower() for label in layer.axis_labels]
    if names.count("y") == names.count("x") == 1 and names.count("z") <= 1:
        kept = [names.index(name) for name in "zyx" if name in names]
        # Sections are often called times or channels, as Fiji does by default.
        sections = [axis for axis, n in enumerate(shape) if axis not in kept and n > 1]
        if len(kept) == 2 and len(sections) <= 1:
            kept = sections + kept
            sections = []
        if not sections:
            return tuple(kept)
    else:
        kept = list(range(layer.ndim))
        for axis in range(layer.ndim - 2):
            if len(kept) > 3 and shape[axis] == 1:
                kept.remove(axis)
        if len(kept) <= 3:
            # An axis that is called x and stands where z is expected would be read wrongly.
            places = zip(kept, "zyx"[-len(kept) :], strict=True)
            if any(names[axis] in {*"zyx"} - {place} for axis, place in places):
                return f"has the axes {', '.join(layer.axis_labels)}: name them z, y, x"
            return tuple(kept)
    longer = [n for n in shape if n > 1]
    return (
        f"has {len(longer)} axes ({' x '.join(map(str, shape))}), and a volume has z, y and x: "
        "open one of its channels or times in the panel Data"
    )


def _seems_grey(layer: Image) -> bool:
    """Whether red, green and blue are the same, in some pixels of a first and a middle section."""
    data = finest(layer)
    if layer.ndim > 2 and isinstance(_axes(layer), str):
        return False
    middle = [tuple(n // 2 for n in data.shape[:-3]), (0,) * (data.ndim - 3)]
    step = slice(None, None, _GREY_STEP)
    pixels = (_in_memory(data[(*section, step, step)]) for section in middle)
    return all(_is_grey(values) for values in pixels)


def _is_grey(values: NDArray[Any]) -> bool:
    # A fourth channel is the opacity.
    return bool((values[..., :1] == values[..., 1:3]).all())


def _in_memory(part: Any) -> NDArray[Any]:
    """The values of a part of a layer's array; threads may ask while napari draws.

    napari keeps what dask has computed in a cache that is not made for several threads: now and
    then, one of them fails with a KeyError. Without callbacks, dask leaves the cache alone.
    """
    if isinstance(part, np.ndarray) or not hasattr(part, "compute"):
        return np.asarray(part)
    return np.asarray(part.compute(callbacks=()))


class _LayerView(Lazy3D):
    """An array seen as (z, y, x).

    Args:
        array: any array.
        axes: of the array that are z, y, x or y, x; all others have length one.
        colour_name: of a layer with a last axis of colours, all of which must be the same.
    """

    def __init__(self, array: Any, axes: tuple[int, ...], colour_name: str | None = None) -> None:
        z, y, x = ([1] + [array.shape[axis] for axis in axes])[-3:]
        super().__init__((z, y, x), array.dtype)
        self._array = array
        self._axes = axes
        self._colour_name = colour_name

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        count = len(self._array.shape) - (self._colour_name is not None)
        index: list[int | slice] = [0] * count
        for axis, part in zip(self._axes, (z, y, x)[-len(self._axes) :], strict=True):
            index[axis] = part
        values = _in_memory(self._array[tuple(index)])
        if self._colour_name is not None:
            if not _is_grey(values):
                raise DataError(
                    f"'{self._colour_name}' is a colour image: convert it to grey values."
                )
            values = values[..., 0]
        # What is left are the volume's axes, in the array's order.
        values = values.transpose(np.argsort(np.argsort(self._axes)))
        return values if len(self._axes) == 3 else values[None][z]
