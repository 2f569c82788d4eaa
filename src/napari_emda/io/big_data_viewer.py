"""HDF5 files of BigDataViewer, whose voxel sizes are in a file of XML beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from napari_emda.io.units import Calibration, calibrated, number

if TYPE_CHECKING:
    import h5py

# Time, number of the image, and level of its pyramid.
_NAME = re.compile(r"/?t\d{5}/s(\d{2,})/(\d+)/cells")
# Bytes of XML that are read: a thousand images take some MB.
_LARGEST_XML = 2**24


def level_of(name: str) -> int | None:
    """The level of a pyramid that a dataset of this name holds; None for other datasets."""
    found = _NAME.fullmatch(name)
    return None if found is None else int(found[2])


def viewer_calibration(dataset: h5py.Dataset, path: Path) -> Calibration:
    """The voxel size of an image, as far as the XML beside its file states it.

    Args:
        dataset: of a name as BigDataViewer gives.
        path: of the HDF5 file.
    """
    found = _NAME.fullmatch(str(dataset.name))
    description = path.with_suffix(".xml")
    # A pipe of this name would keep the program waiting.
    if found is None or not description.is_file() or description.stat().st_size > _LARGEST_XML:
        return Calibration()
    try:
        root = ElementTree.fromstring(description.read_bytes())
    except ElementTree.ParseError:
        return Calibration()
    setups = (
        e for e in root.iter("ViewSetup") if e.findtext("id", "").strip() == str(int(found[1]))
    )
    voxel = next((size for setup in setups for size in setup.iter("voxelSize")), None)
    sizes = [] if voxel is None else [number(text) for text in voxel.findtext("size", "").split()]
    if voxel is None or len(sizes) != 3:
        return Calibration()
    factors = _factors(dataset.file, found[1], int(found[2]))
    # In the file, x comes first.
    scaled = [
        None if size is None else size * factor for size, factor in zip(sizes, factors, strict=True)
    ]
    return calibrated(scaled[::-1], [voxel.findtext("unit")] * 3)


def _factors(file: h5py.File, setup: str, level: int) -> list[float]:
    """How much larger the voxels of a level are than those of the finest, along x, y, z."""
    table = file.get(f"s{setup}/resolutions")
    if level == 0:
        return [1.0] * 3
    # Of unknown size, so that nobody takes the voxels for smaller than they are.
    if table is None or table.ndim != 2 or table.shape[1] != 3 or table.shape[0] <= level:
        return [float("nan")] * 3
    factors: list[float] = np.asarray(table[level], float).tolist()
    return factors
