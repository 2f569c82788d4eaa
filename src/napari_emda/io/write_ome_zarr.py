"""OME-Zarr 0.5 images, block by block, with a pyramid of coarser levels."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.blocks import BLOCK_VOXELS, block_shape, blocks
from napari_emda.data.box import Box
from napari_emda.data.units import nanometres
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import TileDone
from napari_emda.io.atomic import replacing_folder

# Chunk of a volume: 1 MiB of uint8. Chunks of one section would make the xz and yz views of a
# viewer slow (a chunk per row), cubes of this size would decode 100 sections for one.
CHUNK = (16, 256, 256)
# Pixels of a section of the coarsest level, along its longer side: about what a screen shows, so
# that a viewer need not read more to show a whole section.
COARSEST = 512

# The lengths that OME-Zarr has names for (NGFF 0.5, "axes" metadata), by their nanometres.
UNITS = {
    1e-3: "picometer",
    0.1: "angstrom",
    1.0: "nanometer",
    1e3: "micrometer",
    1e6: "millimeter",
    1e9: "meter",
}


@dataclass(frozen=True)
class Level:
    """A level of a pyramid.

    Attributes:
        shape: of the level, (z, y, x).
        factors: voxels of the finest level in one of this level, along z, y, x.
    """

    shape: tuple[int, int, int]
    factors: tuple[int, int, int] = (1, 1, 1)

    def step_from(self, finer: Level) -> tuple[int, int, int]:
        """Voxels of a finer level in one of this level, along z, y, x."""
        z, y, x = (a // b for a, b in zip(self.factors, finer.factors, strict=True))
        return z, y, x

    def in_finest(self, box: Box, finest: Level) -> Box:
        """Where a box of this level lies in the finest one."""
        z0, y0, x0 = (n * factor for n, factor in zip(box.start, self.factors, strict=True))
        z1, y1, x1 = (n * factor for n, factor in zip(box.stop, self.factors, strict=True))
        return Box((z0, y0, x0), (z1, y1, x1)).clip(finest.shape)


def levels_of(shape: tuple[int, int, int], grid: VoxelGrid) -> list[Level]:
    """The levels of a volume, the finest first.

    Axes are halved whose voxels are less than twice as long as the shortest, so that voxels become
    cubes. Independent sections are never joined.

    Args:
        shape: of the volume, (z, y, x).
        grid: of its voxels.
    """
    levels = [Level(shape)]
    while max(levels[-1].shape[1:]) > COARSEST:
        levels.append(_coarser(levels[-1], grid))
    return levels


def _coarser(level: Level, grid: VoxelGrid) -> Level:
    # Where sections are independent, only y and x are lengths. An axis of one voxel stays as it is.
    sizes = {
        axis: grid.spacing[axis] * level.factors[axis]
        for axis in range(3 - len(grid.axes), 3)
        if level.shape[axis] > 1
    }
    halved = [axis for axis, size in sizes.items() if size < 2 * min(sizes.values())]
    steps = [2 if axis in halved else 1 for axis in range(3)]
    z, y, x = (-(-n // step) for n, step in zip(level.shape, steps, strict=True))
    c, b, a = (n * step for n, step in zip(level.factors, steps, strict=True))
    return Level((z, y, x), (c, b, a))


def write_ome_zarr(
    channels: Sequence[Array],
    path: Path,
    dtype: np.dtype[Any],
    grid: VoxelGrid,
    volume: str,
    *,
    labels: bool = False,
) -> Generator[TileDone, None, None]:
    """Write an image; see `napari_emda.io.write.save_volume`.

    A voxel of a coarser level is the mean of those that it stands for; of labels, the first.
    """
    z, y, x = channels[0].shape
    levels = levels_of((z, y, x), grid)
    with replacing_folder(path) as partial:
        arrays = _create(partial, levels, len(channels), dtype, grid, path.stem, labels=labels)
        plan = [
            (number, box)
            # Whole chunks, so that none is read back to be completed.
            for number, level in enumerate(levels)
            for box in blocks(Box.whole(level.shape), block_shape(arrays[number], _voxels(number)))
        ]
        for done, (number, box) in enumerate(plan, start=1):
            for channel in range(len(channels)):
                if number == 0:
                    values = np.asarray(channels[channel][box.slices])
                else:
                    step = levels[number].step_from(levels[number - 1])
                    fine = _View(arrays[number - 1], channel)
                    values = _reduced(fine, box, step, dtype, labels=labels)
                _View(arrays[number], channel).write(box, values.astype(dtype, copy=False))
            event = TileDone(
                volume=volume,
                box=levels[number].in_finest(box, levels[0]).bounds,
                done=done,
                total=len(plan),
            )
            # The last event says "complete", so it waits until the image has its name.
            if done < len(plan):
                yield event
    yield event


def _voxels(number: int) -> int:
    """Voxels of a block of a level: of a coarser one, up to eight times as many are read for it."""
    return BLOCK_VOXELS if number == 0 else BLOCK_VOXELS // 8


@dataclass(frozen=True)
class _View:
    """A channel of a level, or the level if it has no channels."""

    array: zarr.Array[Any]
    channel: int

    def _index(self, box: Box) -> tuple[Any, ...]:
        return (self.channel, *box.slices) if self.array.ndim > 3 else box.slices

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape[-3:]

    def read(self, box: Box) -> NDArray[Any]:
        return np.asarray(self.array[self._index(box)])

    def write(self, box: Box, values: NDArray[Any]) -> None:
        self.array[self._index(box)] = values


def _reduced(
    fine: _View, box: Box, step: tuple[int, int, int], dtype: np.dtype[Any], *, labels: bool
) -> NDArray[Any]:
    """A box of a level from the finer one."""
    z0, y0, x0 = (n * by for n, by in zip(box.start, step, strict=True))
    z1, y1, x1 = (n * by for n, by in zip(box.stop, step, strict=True))
    values = fine.read(Box((z0, y0, x0), (z1, y1, x1)).clip(fine.shape))
    c, b, a = step
    if labels:
        return values[::c, ::b, ::a]
    # At the far ends, the last voxels stand for those that are missing.
    missing = [
        (0, side * by - n) for side, by, n in zip(box.shape, step, values.shape, strict=True)
    ]
    z, y, x = box.shape
    cells = np.pad(values, missing, mode="edge").reshape(z, c, y, b, x, a)
    mean = cells.mean(axis=(1, 3, 5), dtype=np.float64)
    return np.rint(mean) if dtype.kind in "iu" else mean


def _create(
    folder: Path,
    levels: Sequence[Level],
    channels: int,
    dtype: np.dtype[Any],
    grid: VoxelGrid,
    name: str,
    *,
    labels: bool,
) -> list[zarr.Array[Any]]:
    """Create an empty image of all levels."""
    axes = "czyx" if channels > 1 else "zyx"
    attributes = _attributes(axes, levels, grid, name, labels=labels)
    group = zarr.create_group(folder, attributes={"ome": attributes}, overwrite=True, zarr_format=3)
    arrays = []
    for number, level in enumerate(levels):
        shape = (channels, *level.shape) if channels > 1 else level.shape
        sides = (1, *CHUNK)[-len(shape) :]
        # Not larger than the image, and zarr takes no chunk of side 0, which an empty image would
        # get.
        chunks = tuple(max(1, min(side, n)) for side, n in zip(sides, shape, strict=True))
        arrays.append(
            group.create_array(
                str(number),
                shape=shape,
                dtype=dtype,
                chunks=chunks,
                fill_value=0,
                dimension_names=list(axes),
            )
        )
    return arrays


def _attributes(
    axes: str, levels: Sequence[Level], grid: VoxelGrid, name: str, *, labels: bool
) -> dict[str, Any]:
    # Imported here, because importing these models takes longer than writing a small file.
    from ome_zarr_models.v05.axes import Axis
    from ome_zarr_models.v05.image import ImageAttrs
    from ome_zarr_models.v05.image_label import ImageLabelAttrs
    from ome_zarr_models.v05.image_label_types import Label
    from ome_zarr_models.v05.multiscales import Dataset, Multiscale

    # Lengths without a name in OME-Zarr, such as inches, are stated in nm.
    if nanometres(grid.unit) not in UNITS:
        grid = grid.in_nanometres()
    # None for voxel sizes in pixels: OME-Zarr leaves the unit out.
    unit = UNITS.get(nanometres(grid.unit) or 0)
    spaces = [
        Axis(name=axis, type="space", unit=unit if axis in grid.axes else None) for axis in "zyx"
    ]
    channel = [Axis(name="c", type="channel")] if axes[0] == "c" else []
    ones, zeros = [1.0] * len(channel), [0.0] * len(channel)
    datasets = []
    for number, level in enumerate(levels):
        scale, translation = _placement(level, grid)
        # OME-Zarr leaves out a translation of nothing.
        moved = zeros + translation if any(translation) else None
        datasets.append(Dataset.build(path=str(number), scale=ones + scale, translation=moved))
    image = Multiscale(
        axes=(*channel, *spaces),
        datasets=tuple(datasets),
        name=name,
        type=None if len(levels) == 1 else "nearest" if labels else "mean",
    )
    described: Any
    if labels:
        described = ImageLabelAttrs(
            **{"multiscales": [image], "version": "0.5", "image-label": Label()}
        )
    else:
        described = ImageAttrs(multiscales=[image], version="0.5")
    attributes: dict[str, Any] = described.model_dump(mode="json", exclude_none=True, by_alias=True)
    return attributes


def _placement(level: Level, grid: VoxelGrid) -> tuple[list[float], list[float]]:
    """Scale and translation of a level along z, y, x."""
    scale = []
    translation = []
    for axis, size, position, factor in zip(
        "zyx", grid.spacing, grid.origin, level.factors, strict=True
    ):
        # OME-Zarr requires a scale for every axis. 1 without a unit states no distance, which is
        # what independent sections have.
        if axis not in grid.axes:
            scale.append(1.0)
            translation.append(0.0)
            continue
        scale.append(float(size) * factor)
        # The middle of the first voxel, which has grown towards the far end only.
        translation.append(float(position) + (factor - 1) / 2 * float(size))
    return scale, translation
