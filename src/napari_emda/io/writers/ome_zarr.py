"""OME-Zarr 0.5 images with a pyramid of coarser levels, in chunks or in shards."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import zarr

from napari_emda.data.units import nanometres
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import TileDone
from napari_emda.io import pyramid
from napari_emda.io.atomic import replacing_folder
from napari_emda.io.pyramid import Level, StoredChannel, levels_of, write_levels
from napari_emda.io.readers.ome_zarr import MARKERS
from napari_emda.io.writer import NewImage, Writer, writers

# Chunks that are packed into a shard may be small, which viewers of all three planes like: 256 KiB
# of uint8.
SHARDED_CHUNK = (16, 128, 128)
# Chunks in a shard along z, y, x. A shard is written at once: 16 MiB of uint8, four times that of
# numbers of objects.
CHUNKS_IN_SHARD = (4, 4, 4)

# The lengths that OME-Zarr has names for (NGFF 0.5, "axes" metadata), by their nanometres.
UNITS = {
    1e-3: "picometer",
    0.1: "angstrom",
    1.0: "nanometer",
    1e3: "micrometer",
    1e6: "millimeter",
    1e9: "meter",
}


class _ZarrWriter(Writer):
    """Base of both: they differ in how chunks are packed."""

    takes_channels: ClassVar = True
    by_many: ClassVar = True
    in_shards: ClassVar[bool]

    @classmethod
    def owns(cls, folder: Path) -> bool:
        """A folder with the metadata of zarr."""
        return any((folder / name).exists() for name in MARKERS)

    @classmethod
    def write(cls, image: NewImage, path: Path) -> Generator[TileDone, None, None]:
        """Write all levels, block by block."""
        levels = levels_of(image.shape, image.grid)
        with replacing_folder(path) as partial:
            stored = _create(partial, levels, image, path.stem, in_shards=cls.in_shards)
            channels = range(len(image.channels))
            arrays = [[StoredChannel(array, channel) for channel in channels] for array in stored]
            last = yield from write_levels(image, levels, arrays)
        yield last


@writers.register("ome_zarr")
class OmeZarr(_ZarrWriter):
    """OME-Zarr 0.5 with a pyramid, a file for each chunk."""

    format: ClassVar = "OME-Zarr"
    suffixes: ClassVar = (".zarr",)
    rank: ClassVar = 1
    in_shards: ClassVar = False


@writers.register("sharded_ome_zarr")
class ShardedOmeZarr(_ZarrWriter):
    """OME-Zarr 0.5 with a pyramid, in shards: some sixty chunks in a file, for large volumes."""

    format: ClassVar = "OME-Zarr in shards"
    suffixes: ClassVar = (".sharded.zarr",)
    in_shards: ClassVar = True


def _create(
    folder: Path, levels: Sequence[Level], image: NewImage, name: str, *, in_shards: bool
) -> list[zarr.Array[Any]]:
    """Create an empty image of all levels."""
    count = len(image.channels)
    axes = "czyx" if count > 1 else "zyx"
    attributes = _attributes(axes, levels, image, name)
    group = zarr.create_group(folder, attributes={"ome": attributes}, overwrite=True, zarr_format=3)
    arrays = []
    for number, level in enumerate(levels):
        shape = (count, *level.shape) if count > 1 else level.shape
        sides = (1, *(SHARDED_CHUNK if in_shards else pyramid.CHUNK))[-len(shape) :]
        # Not larger than the image, and zarr takes no chunk of side 0, which an empty image would
        # get.
        chunks = tuple(max(1, min(side, n)) for side, n in zip(sides, shape, strict=True))
        packed = (1, *CHUNKS_IN_SHARD)[-len(shape) :]
        shards = tuple(
            chunk * min(times, -(-n // chunk))
            for chunk, times, n in zip(chunks, packed, shape, strict=True)
        )
        arrays.append(
            group.create_array(
                str(number),
                shape=shape,
                dtype=image.dtype,
                chunks=chunks,
                shards=shards if in_shards else None,
                fill_value=0,
                dimension_names=list(axes),
            )
        )
    return arrays


def _attributes(axes: str, levels: Sequence[Level], image: NewImage, name: str) -> dict[str, Any]:
    # Imported here, because importing these models takes longer than writing a small file.
    from ome_zarr_models.v05.axes import Axis
    from ome_zarr_models.v05.image import ImageAttrs
    from ome_zarr_models.v05.image_label import ImageLabelAttrs
    from ome_zarr_models.v05.image_label_types import Label
    from ome_zarr_models.v05.multiscales import Dataset, Multiscale

    grid = image.grid
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
    described_image = Multiscale(
        axes=(*channel, *spaces),
        datasets=tuple(datasets),
        name=name,
        type=None if len(levels) == 1 else "nearest" if image.labels else "mean",
    )
    described: Any
    if image.labels:
        described = ImageLabelAttrs(
            **{"multiscales": [described_image], "version": "0.5", "image-label": Label()}
        )
    else:
        described = ImageAttrs(multiscales=[described_image], version="0.5")
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
