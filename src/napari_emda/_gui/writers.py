"""What *File > Save Selected Layers* offers: labels as a TIFF that keeps its voxel size.

Napari's own writer drops the voxel size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from napari_emda.data.units import nanometres
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.io.tiff import write_tiff


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one Labels layer, section by section.

    Args:
        path: where to.
        data: integers, (z, y, x) or (y, x); further axes of length one may lead; finest level first
            if multiscale.
        meta: the layer's ``scale`` and ``units``, as napari hands them over.

    Returns:
        What was written.

    Raises:
        DataError: more axes, negative labels, labels beyond 32 bits, or a place that cannot be
            written.
    """
    finest = data[0] if meta.get("multiscale") or isinstance(data, list) else data
    shape = finest.shape
    if len(shape) < 2 or any(n > 1 for n in shape[:-3]):
        raise DataError(
            f"{Path(path).name} would have {len(shape)} axes, but a TIFF of labels has z, y and x."
        )
    sections = _Sections(finest)
    dtype = _smallest(sections, Path(path).name)
    write_tiff(path, sections, sections.shape, dtype, _grid(meta))
    return [path]


class _Sections:
    """The (y, x) sections of an array, read one at a time, as often as one asks."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.dtype = np.dtype(data.dtype)
        count = data.shape[-3] if data.ndim > 2 else 1
        self.shape: tuple[int, int, int] = (count, data.shape[-2], data.shape[-1])

    def __iter__(self) -> Any:
        leading = (0,) * (self._data.ndim - 3)
        for z in range(self.shape[0]):
            yield np.asarray(self._data[(*leading, z)] if self._data.ndim > 2 else self._data)


def _smallest(sections: _Sections, name: str) -> DTypeLike:
    """The smallest unsigned type that holds all labels: Fiji opens 8 and 16 bits directly."""
    if sections.dtype.kind == "b" or sections.dtype == np.uint8:
        return np.uint8
    low, high = 0, 0
    for section in sections:
        low, high = min(low, int(section.min(initial=0))), max(high, int(section.max(initial=0)))
    if low < 0 or high > np.iinfo(np.uint32).max:
        raise DataError(
            f"{name} cannot hold labels from {low} to {high}: renumber them between 0 and "
            "4294967295."
        )
    return np.min_scalar_type(high)


def _grid(meta: dict[str, Any]) -> VoxelGrid | None:
    """The layer's grid; None where nobody gave its pixels a size."""
    scale = [float(s) for s in meta.get("scale", ())][-3:]
    units = [str(unit) for unit in meta.get("units") or ()][-3:]
    if len(scale) < 2:
        return None
    if len(scale) == 2:
        # A single section: nothing tells how thick it is, and nothing depends on it.
        scale = [scale[0], *scale]
        units = [*units[:1], *units]
    factors = [factor for factor in map(nanometres, units) if factor is not None]
    if len(factors) != 3:
        is_set = any(size != 1 for size in scale)  # napari's default is 1
        return VoxelGrid((scale[0], scale[1], scale[2]), "pixel") if is_set else None
    z, y, x = (float(f"{s * f:.10g}") for s, f in zip(scale, factors, strict=True))
    return VoxelGrid((z, y, x))
