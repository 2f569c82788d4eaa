"""Neuroglancer's precomputed volumes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from napari_emda.errors import DataError
from napari_emda.io.axes import volume_of
from napari_emda.io.description import description, numbers
from napari_emda.io.location import Part
from napari_emda.io.reader import MultiImageReader, readers
from napari_emda.io.tensorstore_array import TensorStoreArray
from napari_emda.io.units import Stored, calibrated


@readers.register("precomputed")
class Precomputed(MultiImageReader):
    """Neuroglancer's precomputed images and segmentations, also in shards."""

    formats: ClassVar = ("Neuroglancer precomputed",)
    library: ClassVar = "tensorstore"
    voxel_size: ClassVar = "`resolution`"

    @classmethod
    def takes(cls, path: Path) -> bool:
        """A folder whose file ``info`` lists scales."""
        return path.is_dir() and "scales" in description(path / "info")

    @classmethod
    def open_part(cls, path: Path, part: Part) -> Stored:
        """The scale of a ``level``, at one of several channels."""
        number = part.at.get("level", 0)
        scales = description(path / "info")["scales"]
        if number >= len(scales):
            raise DataError(
                f"{path.name} has the levels 0 to {len(scales) - 1}, and {number} is none of "
                "them: choose another one."
            )
        array = TensorStoreArray("neuroglancer_precomputed", path, scale_index=number)
        volume = volume_of(array, ["x", "y", "z", "c"], part, path.name, also=["level"])
        # Voxels of this scale, x first.
        sizes = numbers(scales[number].get("resolution"), 3) or [0.0] * 3
        x, y, z = (start * size for start, size in zip(array.origin, sizes, strict=False))
        return Stored(volume, *calibrated(sizes[::-1], ["nm"] * 3), origin=(z, y, x))
