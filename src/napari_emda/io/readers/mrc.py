"""MRC files, as IMOD, SerialEM and most programs for tomograms write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from napari_emda.errors import DataError
from napari_emda.io.raw_voxels import RawVoxels
from napari_emda.io.reader import Reader, readers
from napari_emda.io.units import Calibration, Stored, calibrated

# IMOD's mark in the words that the format leaves to programs, and the bit of its flags that says
# that bytes have a sign (IMOD's description of the format, bdb0.colorado.edu/imod/doc/mrc_format).
_IMOD_STAMP = 1146047817
_IMOD_SIGNED = 1
# From this number of a space group on, a file is a stack of volumes (MRC2014).
_STACK_OF_VOLUMES = 401

_Order = Literal["<", ">"]


@readers.register("mrc")
class Mrc(Reader):
    """MRC images and tomograms (IMOD, SerialEM), with the voxel size of their header."""

    formats: ClassVar = ("MRC",)
    suffixes: ClassVar = (".mrc", ".rec", ".mrcs", ".st", ".ali", ".map")
    library: ClassVar = "mrcfile"
    voxel_size: ClassVar = "header; 1 Å is taken as unknown"

    @classmethod
    def open(cls, path: Path) -> Stored:
        """Read the header; voxels are read where they are sliced."""
        header, order = _header(path)
        shape = (int(header["nz"]), int(header["ny"]), int(header["nx"]))
        axes = tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))
        # Programs that do not care leave zeros.
        if axes not in ((1, 2, 3), (0, 0, 0)):
            raise DataError(
                f"{path.name} stores its axes in the order {axes}, and columns, rows, sections "
                "(1, 2, 3) are needed: save it in this order."
            )
        if header["ispg"] >= _STACK_OF_VOLUMES and 0 < header["mz"] < shape[0]:
            raise DataError(
                f"{path.name} holds several volumes of {header['mz']} sections: save one of them "
                "as a file of its own."
            )
        if min(shape) < 1 or header["nsymbt"] < 0:
            raise ValueError(f"a size of {shape}")
        offset = header.dtype.itemsize + int(header["nsymbt"])
        voxels = RawVoxels(path, shape, _dtype(header, order), offset).check_complete()
        return Stored(voxels, *_calibration(header))


def _header(path: Path) -> tuple[Any, _Order]:
    """The header, and the order of bytes in which it makes sense."""
    from mrcfile.dtypes import HEADER_DTYPE

    with path.open("rb") as file:
        content = file.read(HEADER_DTYPE.itemsize)
    if len(content) < HEADER_DTYPE.itemsize:
        raise ValueError("no header")
    # Older programs leave out the marks of the format and of the order of bytes.
    orders: tuple[_Order, ...] = ("<", ">")
    for order in orders:
        header = np.frombuffer(content, HEADER_DTYPE.newbyteorder(order))[0]
        if _is_sensible(header):
            return header, order
    raise ValueError("its header is not that of MRC")


def _is_sensible(header: Any) -> bool:
    # With the bytes exchanged, these small numbers are beyond 65535.
    axes = {int(header[name]) for name in ("mapc", "mapr", "maps")}
    return 0 <= header["mode"] < 256 and axes in ({1, 2, 3}, {0})


def _dtype(header: Any, order: _Order) -> np.dtype[Any]:
    from mrcfile.utils import dtype_from_mode

    dtype = np.dtype(dtype_from_mode(int(header["mode"])))
    stamp, flags = np.frombuffer(bytes(header["extra2"])[40:48], np.dtype("i4").newbyteorder(order))
    # The format says that bytes have a sign, and IMOD writes most of its files without.
    if dtype == np.int8 and stamp == _IMOD_STAMP and not flags & _IMOD_SIGNED:
        dtype = np.dtype(np.uint8)
    return dtype.newbyteorder(order)


def _calibration(header: Any) -> Calibration:
    """The voxel size: that of the whole cell over the number of its voxels."""
    sizes = [
        float(header["cella"][axis]) / count if (count := int(header[f"m{axis}"])) > 0 else None
        for axis in "zyx"
    ]
    # What programs write that know of no size.
    if sizes == [1.0, 1.0, 1.0]:
        return Calibration(remark="1 \u00c5, as files do whose voxel size is not set")
    # Ten digits of a number of 32 bits are noise: 8 nm would be 8.000000119.
    rounded = [None if size is None else float(f"{size:.6g}") for size in sizes]
    return calibrated(rounded, ["angstrom"] * 3)
