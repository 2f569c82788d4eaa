"""HDF5, as CREMI, ilastik and Fiji read it."""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from napari_emda.data.units import nanometres
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import TileDone
from napari_emda.io import pyramid
from napari_emda.io.atomic import replacing_file
from napari_emda.io.pyramid import Level, StoredChannel, write_levels
from napari_emda.io.writer import NewImage, Writer, writers

if TYPE_CHECKING:
    import h5py

# Path of the image in the file, the usual one of volumes in HDF5.
_INSIDE = "data"


@writers.register("hdf5")
class Hdf5(Writer):
    """HDF5 with the image `/data`; voxel size and position as in the files of CREMI and Fiji."""

    format: ClassVar = "HDF5"
    suffixes: ClassVar = (".h5", ".hdf5")
    library: ClassVar = "h5py"
    takes_channels: ClassVar = True

    @classmethod
    def write(cls, image: NewImage, path: Path) -> Generator[TileDone, None, None]:
        """Write the image block by block."""
        import h5py

        with (
            replacing_file(path) as partial,
            # Without HDF5's own lock: the partial file is locked already.
            h5py.File(partial, "w", locking=False) as file,
        ):
            dataset = _created(file, image)
            _describe(dataset, image)
            arrays = [StoredChannel(dataset, k) for k in range(len(image.channels))]
            last = yield from write_levels(image, [Level(image.shape)], [arrays])
        yield last


def _created(file: h5py.File, image: NewImage) -> h5py.Dataset:
    count = len(image.channels)
    shape = (count, *image.shape) if count > 1 else image.shape
    sides = (1, *pyramid.CHUNK)[-len(shape) :]
    dataset = file.create_dataset(
        _INSIDE,
        shape,
        image.dtype,
        chunks=tuple(min(side, n) for side, n in zip(sides, shape, strict=True)),
        # Every program has these two filters; the bytes of large numbers compress better apart.
        compression="gzip",
        shuffle=True,
    )
    for dimension, name in zip(dataset.dims, "czyx"[-len(shape) :], strict=True):
        dimension.label = name
    return dataset


def _describe(dataset: h5py.Dataset, image: NewImage) -> None:
    """State voxel size, position and names of channels in the words of several programs."""
    if len(image.names) > 1:
        dataset.attrs["channel_names"] = list(image.names)
    grid = image.grid.in_nanometres()
    sizes = _sizes(grid)
    if nanometres(grid.unit) is None:
        dataset.attrs["voxel_size"] = sizes
        dataset.attrs["units"] = grid.unit
        return
    # CREMI's, which are in nm; then that of Fiji's plugin for HDF5.
    dataset.attrs["resolution"] = sizes
    dataset.attrs["offset"] = grid.origin
    dataset.attrs["element_size_um"] = [size / 1000 for size in sizes]


def _sizes(grid: VoxelGrid) -> list[float]:
    """Along z, y, x; no number where sections are independent, because it would be a distance."""
    pairs = zip("zyx", grid.spacing, strict=True)
    return [float(size) if axis in grid.axes else math.nan for axis, size in pairs]
