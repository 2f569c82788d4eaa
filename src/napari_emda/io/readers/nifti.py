"""NIfTI files, as programs of neuroimaging write them."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.lazy import Lazy3D
from napari_emda.errors import DataError
from napari_emda.io.axes import layout, raw_volume
from napari_emda.io.location import Part
from napari_emda.io.packed_voxels import PackedVoxels
from napari_emda.io.reader import MultiImageReader, readers
from napari_emda.io.units import Stored, calibrated

# Bytes of a header of format 2; that of format 1 is shorter.
_HEADER = 540
# The axes of the format, the fastest first, as far as they have a meaning for images.
_NAMES = ("x", "y", "z", "t", "c")


@readers.register("nifti")
class Nifti(MultiImageReader):
    """NIfTI volumes (.nii, .nii.gz), with the voxel size of their header."""

    formats: ClassVar = ("NIfTI",)
    suffixes: ClassVar = (".nii", ".nii.gz")
    library: ClassVar = "nibabel"
    voxel_size: ClassVar = "`pixdim`, with `xyzt_units`"
    lazily: ClassVar = "`.nii`: yes; `.nii.gz`: unpacked as a whole, up to 2 GiB"

    @classmethod
    def open_part(cls, path: Path, part: Part) -> Stored:
        """Read the header, and choose a time or channel; voxels are read where they are sliced."""
        from nibabel.spatialimages import HeaderDataError

        try:
            return _opened(path, part)
        except HeaderDataError as error:
            raise ValueError(error) from None


def _opened(path: Path, part: Part) -> Stored:
    header = _header(path)
    sides = tuple(int(length) for length in header.get_data_shape())
    if not 2 <= len(sides) <= len(_NAMES) or min(sides) < 1:
        raise ValueError(f"a shape of {sides}")
    names = _NAMES[: len(sides)]
    voxels = _voxels(path, header, sides[::-1], names[::-1], part)
    size_of = dict(zip(names, (float(zoom) for zoom in header.get_zooms()), strict=False))
    sizes = [_plain(size_of.get(axis)) for axis in "zyx"]
    unit = header.get_xyzt_units()[0]
    return Stored(voxels, *calibrated(sizes, [unit if unit != "unknown" else None] * 3))


def _plain(size: float | None) -> float | None:
    """A size of 32 bits without the noise behind its digits."""
    return None if size is None else float(f"{size:.6g}")


def _header(path: Path) -> Any:
    import nibabel

    is_packed = path.name.lower().endswith(".gz")
    with gzip.open(path) if is_packed else path.open("rb") as file:
        content = file.read(_HEADER)
    for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header):
        # Their own reading takes extensions of any size along.
        size = kind.template_dtype.itemsize
        if len(content) >= size and kind.may_contain_header(content[:size]):
            header = kind(content[:size], check=False)
            if bytes(header["magic"]).startswith((b"n+1", b"n+2")):
                return header
    raise DataError(
        f"{path.name} is no NIfTI file that holds its own voxels: save or copy it again."
    )


def _voxels(
    path: Path, header: Any, shape: tuple[int, ...], names: tuple[str, ...], part: Part
) -> Lazy3D:
    offset = float(header["vox_offset"])
    if not 0 < offset < 2**31:
        raise ValueError(f"voxels at {offset}")
    dtype = header.get_data_dtype()
    if not path.name.lower().endswith(".gz"):
        voxels: Lazy3D = raw_volume(path, shape, names, part, dtype, int(offset))
    else:
        layout(shape, names, part, path.name)
        if math.prod(shape) != math.prod(shape[-3:]):
            raise DataError(
                f"{path.name} has several images in one gzip stream: unpack it with gunzip."
            )
        z, y, x = (1, *shape)[-3:]
        voxels = PackedVoxels(path, (z, y, x), dtype, skip=int(offset))
    slope, intercept = header.get_slope_inter()
    if slope in (None, 1.0) and intercept in (None, 0.0):
        return voxels
    return _Scaled(voxels, 1.0 if slope is None else slope, intercept or 0.0)


class _Scaled(Lazy3D):
    """Stored numbers times a factor, plus another number, as the header says."""

    def __init__(self, array: Lazy3D, slope: float, intercept: float) -> None:
        super().__init__(array.shape, np.float32)
        self._array = array
        self._slope = slope
        self._intercept = intercept

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        values = self._array[z, y, x].astype(np.float64)
        return (values * self._slope + self._intercept).astype(np.float32)
