"""Neuroglancer's precomputed volumes."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.data.units import nanometres
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import TileDone
from napari_emda.io import pyramid
from napari_emda.io.atomic import replacing_folder
from napari_emda.io.description import description
from napari_emda.io.pyramid import Level, levels_of, write_levels
from napari_emda.io.writer import NewImage, Writer, writers

# Voxels by which a position may differ from a whole number: rounding of products of decimals.
_WHOLE = 1e-6


@writers.register("precomputed")
class Precomputed(Writer):
    """Neuroglancer's precomputed volume with a pyramid; masks and objects are segmentations."""

    format: ClassVar = "Neuroglancer precomputed"
    suffixes: ClassVar = (".precomputed",)
    library: ClassVar = "tensorstore"
    takes_channels: ClassVar = True
    by_many: ClassVar = True
    takes_surfaces: ClassVar = True

    @classmethod
    def owns(cls, folder: Path) -> bool:
        """A folder whose file ``info`` lists scales."""
        return "scales" in description(folder / "info")

    @classmethod
    def lost(cls, grid: VoxelGrid) -> str:
        """What nanometres and whole voxels cannot state."""
        sentences = []
        if nanometres(grid.unit) is None:
            sentences.append("Neuroglancer takes the voxel size for nm, because it is not known.")
        if grid.sections_are_independent:
            sentences.append(
                f"Neuroglancer shows the independent sections {_sizes(grid)[0]:g} nm apart."
            )
        positions = zip(_offset(grid), grid.origin, grid.spacing, strict=True)
        if any(abs(whole - at / size) > _WHOLE for whole, at, size in positions):
            sentences.append("The position is rounded to whole voxels, as Neuroglancer needs it.")
        return " ".join(sentences)

    @classmethod
    def write(cls, image: NewImage, path: Path) -> Generator[TileDone, None, None]:
        """Write all levels, block by block."""
        levels = levels_of(image.shape, image.grid)
        if image.labels:
            # The type that the compression of segmentations needs; values stay the same.
            image = replace(image, dtype=np.dtype(np.uint32))
        with replacing_folder(path) as partial:
            arrays = [_created(partial, level, image) for level in levels]
            last = yield from write_levels(image, levels, arrays)
            if image.surfaces:
                _write_meshes(partial, image)
        yield last


@dataclass(frozen=True)
class _Scale:
    """A channel of a scale, which tensorstore keeps as x, y, z; see `LevelArray`."""

    array: Any
    channel: int
    shape: tuple[int, int, int]
    chunks: tuple[int, ...] = pyramid.CHUNK

    def _part(self, box: Box) -> Any:
        z, y, x = box.slices
        return self.array[x, y, z, self.channel]

    def read(self, box: Box) -> NDArray[Any]:
        """See `LevelArray`."""
        return np.asarray(self._part(box).read().result()).T

    def write(self, box: Box, values: NDArray[Any]) -> None:
        """See `LevelArray`."""
        self._part(box).write(values.T).result()


def _created(folder: Path, level: Level, image: NewImage) -> Sequence[_Scale]:
    """Add a scale to a volume."""
    import tensorstore

    sizes = [size * factor for size, factor in zip(_sizes(image.grid), level.factors, strict=True)]
    # Of a coarser scale the position is a whole number of its own voxels, too.
    offset = [
        start // factor for start, factor in zip(_offset(image.grid), level.factors, strict=True)
    ]
    scale: dict[str, Any] = {
        "size": level.shape[::-1],
        "resolution": sizes[::-1],
        "voxel_offset": offset[::-1],
        "chunk_size": pyramid.CHUNK[::-1],
        "encoding": "raw",
    }
    if image.labels:
        # The format's usual blocks.
        scale |= {
            "encoding": "compressed_segmentation",
            "compressed_segmentation_block_size": [8, 8, 8],
        }
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder.absolute()}/"},
        "multiscale_metadata": {
            "type": "segmentation" if image.labels else "image",
            "data_type": image.dtype.name,
            "num_channels": len(image.channels),
        },
        "scale_metadata": scale,
    }
    opened: Any = tensorstore.open(spec, create=True).result()
    array = opened[tensorstore.d[:].translate_to[0]]
    return [_Scale(array, channel, level.shape) for channel in range(len(image.channels))]


def _write_meshes(folder: Path, image: NewImage) -> None:
    """Add a mesh per object in the format's older form, which all viewers read: in one resolution.

    See https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/meshes.md.
    """
    meshes = folder / "mesh"
    meshes.mkdir()
    (meshes / "info").write_text(json.dumps({"@type": "neuroglancer_legacy_mesh"}))
    # A voxel begins at its number and ends at the next one; its centre is half a voxel further.
    first = [
        (start + 0.5) * size
        for start, size in zip(_offset(image.grid), _sizes(image.grid), strict=True)
    ]
    for number, (corners, triangles) in image.surfaces.items():
        fragment = f"{number}.mesh"
        (meshes / f"{number}:0").write_text(json.dumps({"fragments": [fragment]}))
        places = (corners + first[::-1]).astype("<f4")
        with (meshes / fragment).open("wb") as file:
            file.write(np.uint32(len(places)).astype("<u4").tobytes())
            file.write(places.tobytes())
            file.write(triangles.astype("<u4").tobytes())
    info = folder / "info"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"mesh": "mesh"}))


def _sizes(grid: VoxelGrid) -> list[float]:
    """Along z, y, x in nm; independent sections are shown as far apart as their rows."""
    z, y, x = (float(size) for size in grid.in_nanometres().spacing)
    return [z if "z" in grid.axes else y, y, x]


def _offset(grid: VoxelGrid) -> list[int]:
    """The first voxel along z, y, x."""
    return [round(at / size) for at, size in zip(grid.origin, grid.spacing, strict=True)]
