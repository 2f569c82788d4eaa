"""A writer for *File > Save Selected Layers*: labels as a TIFF that keeps its voxel size.

napari's own writer drops the voxel size.
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
        path: where to write.
        data: integers, (z, y, x) or (y, x); further axes of length one may lead; finest level first
            if multiscale.
        meta: the layer's ``scale`` and ``units``, as napari passes them.

    Returns:
        The paths that were written.

    Raises:
        DataError: more axes, negative labels, labels beyond 32 bits, or a path that cannot be
            written.
    """
    finest = data[0] if meta.get("multiscale") or isinstance(data, list) else data
    shape = finest.shape
    if len(shape) < 2 or any(n > 1 for n in shape[:-3]):
        raise DataError(
            f"{Path(path).name} would have {len(shape)} axes, but a TIFF of labels has z, y and x: "
            "save one channel of one time point."
        )
    # Twice through the sections, once for the largest label and once to write: memory holds one.
    sections = _Sections(finest)
    dtype = _smallest(sections, Path(path).name)
    write_tiff(path, sections, sections.shape, dtype, _grid(meta))
    return [path]


class _Sections:
    """The (y, x) sections of an array, read one at a time; can be iterated repeatedly."""

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
    low = 0
    high = 0
    for section in sections:
        low = min(low, int(section.min(initial=0)))
        high = max(high, int(section.max(initial=0)))
    if low < 0 or high > np.iinfo(np.uint32).max:
        raise DataError(
            f"{name} cannot hold labels from {low} to {high}: renumber them between 0 and "
            "4294967295."
        )
    return np.min_scalar_type(high)


def _grid(meta: dict[str, Any]) -> VoxelGrid | None:
    """The layer's grid; None if its pixels have no size."""
    scale = [float(s) for s in meta.get("scale", ())][-3:]
    units = [str(unit) for unit in meta.get("units") or ()][-3:]
    if len(scale) < 2:
        return None
    if len(scale) == 2:
        # A single section has no thickness, and nothing depends on it: its row height is as good as
        # any number.
        scale = [scale[0], *scale]
        units = [*units[:1], *units]
    factors = [factor for factor in map(nanometres, units) if factor is not None]
    if len(factors) != 3:
        # napari's default scale is 1: another one was set, if only in unknown units.
        is_set = any(size != 1 for size in scale)
        return VoxelGrid((scale[0], scale[1], scale[2]), "pixel") if is_set else None
    # Ten significant digits hide the rounding of the product (see `io.units.calibrated`).
    z, y, x = (float(f"{s * f:.10g}") for s, f in zip(scale, factors, strict=True))
    return VoxelGrid((z, y, x))
