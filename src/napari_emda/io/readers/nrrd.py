"""NRRD files, as 3D Slicer, ITK and teem write them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from napari_emda.data.lazy import Lazy3D
from napari_emda.errors import DataError
from napari_emda.io.axes import layout, raw_volume
from napari_emda.io.location import Part
from napari_emda.io.packed_voxels import PackedVoxels
from napari_emda.io.reader import MultiImageReader, readers
from napari_emda.io.units import Calibration, Stored, calibrated

# Bytes of a header that are read: the longest have a few KB of comments.
_LARGEST_HEADER = 2**20
_STEP = 2**13
# The kinds of axes that lie in space (definition of the format, section 5); no kind is one as well.
_SPATIAL = ("domain", "space", None)
# Types of voxels by their names without a sign.
_TYPES = {
    "char": "i1",
    "int8": "i1",
    "short": "i2",
    "int16": "i2",
    "int": "i4",
    "int32": "i4",
    "longlong": "i8",
    "long long": "i8",
    "int64": "i8",
    "float": "f4",
    "double": "f8",
}
_ORDERS: dict[str, Literal["<", ">"]] = {"big": ">", "little": "<"}


@readers.register("nrrd")
class Nrrd(MultiImageReader):
    """NRRD volumes (3D Slicer, ITK), raw or gzip, with the voxel size of their header."""

    formats: ClassVar = ("NRRD",)
    suffixes: ClassVar = (".nrrd", ".nhdr")
    library: ClassVar = "nrrd"
    voxel_size: ClassVar = "`spacings` or `space directions`, with `space units`"
    lazily: ClassVar = "raw: yes; gzip: unpacked as a whole, up to 2 GiB"

    @classmethod
    def files(cls, path: Path) -> list[Path]:
        """The header, and the file of the voxels beside it, if it is another one."""
        header, header_end = _header(path)
        return list(dict.fromkeys((path, _data(path, header, header_end)[0])))

    @classmethod
    def open_part(cls, path: Path, part: Part) -> Stored:
        """Read the header, and choose a channel or time; voxels are read where they are sliced."""
        header, header_end = _header(path)
        # Sizes begin with the axis that changes fastest.
        shape = tuple(int(size) for size in reversed(header["sizes"]))
        if len(shape) != header["dimension"] or min(shape) < 1:
            raise ValueError(f"sizes of {shape}")
        names = _names(header, len(shape), path)
        data, offset = _data(path, header, header_end)
        voxels = _voxels(data, header, shape, names, part, offset)
        return Stored(voxels, *_calibration(header, names))


def _header(path: Path) -> tuple[Mapping[str, Any], int]:
    """The header, and where it ends."""
    from nrrd import NRRDError, read_header

    content = b""
    # A blank line ends it, unless it is the whole file.
    blank = None
    with path.open("rb") as file:
        while blank is None and len(content) < _LARGEST_HEADER and (more := file.read(_STEP)):
            content += more
            blank = re.search(rb"\r?\n\r?\n", content)
    if not content.startswith(b"NRRD"):
        raise ValueError("its header is not that of NRRD")
    end = len(content) if blank is None else blank.end()
    try:
        return read_header(io.BytesIO(content[:end])), end
    except NRRDError as error:
        raise ValueError(error) from None


def _names(header: Mapping[str, Any], count: int, path: Path) -> list[str]:
    """Names of the axes, the slowest first."""
    kinds = [None if kind in ("???", "none") else kind for kind in header.get("kinds", [])]
    kinds = [*kinds, *[None] * count][:count][::-1]
    spatial = [axis for axis, kind in enumerate(kinds) if kind in _SPATIAL]
    if len(spatial) > 3:
        # Of four axes of which nothing is said, the slowest are channels.
        spatial = spatial[-3:]
    others = [axis for axis in range(count) if axis not in spatial]
    if len(spatial) < 2 or (others and max(others) > spatial[-2]):
        raise DataError(
            f"{path.name} stores several values for each voxel (kinds {header.get('kinds')}): save "
            "one of its channels."
        )
    names = dict(zip(spatial, "zyx"[-len(spatial) :], strict=True))
    for number, axis in enumerate(others):
        kind = "t" if kinds[axis] == "time" else "c"
        names[axis] = kind if kind not in names.values() else f"axis{number}"
    return [names[axis] for axis in range(count)]


def _data(path: Path, header: Mapping[str, Any], header_end: int) -> tuple[Path, int]:
    """The file that holds the voxels, and where they begin."""
    name = header.get("data file", header.get("datafile"))
    skip = int(header.get("byte skip", header.get("byteskip", 0)))
    if int(header.get("line skip", header.get("lineskip", 0))) or skip < 0:
        raise DataError(f"{path.name} has lines or bytes to be skipped: save it again without.")
    if name is None:
        return path, header_end + skip
    # A header may be somebody else's, and a name in it could be that of any file.
    if not isinstance(name, str) or Path(name).name != name or "%" in name or name == "LIST":
        raise DataError(
            f"{path.name} has its voxels in '{name}', which is not one file beside it: put it "
            "there, or save both in one file."
        )
    if not (path.parent / name).is_file():
        raise DataError(f"{path.name} has its voxels in '{name}': put this file back beside it.")
    return path.parent / name, skip


def _voxels(
    data: Path,
    header: Mapping[str, Any],
    shape: tuple[int, ...],
    names: list[str],
    part: Part,
    offset: int,
) -> Lazy3D:
    dtype = _dtype(header)
    encoding = str(header["encoding"]).lower()
    if encoding == "raw":
        return raw_volume(data, shape, names, part, dtype, offset)
    if encoding not in ("gzip", "gz"):
        raise DataError(
            f"{data.name} is NRRD with the encoding {encoding}, and raw and gzip can be read: save "
            "it in one of them."
        )
    found = layout(shape, names, part, data.name)
    if max(found.chosen.values(), default=0) or len(shape) > 3:
        raise DataError(f"{data.name} has several channels in one gzip stream: save it as raw.")
    z, y, x = (1, *shape)[-3:]
    return PackedVoxels(data, (z, y, x), dtype, start=offset)


def _dtype(header: Mapping[str, Any]) -> np.dtype[Any]:
    """The type of the voxels, by its name in C or in NumPy, such as ``unsigned short int``."""
    words = str(header["type"]).removesuffix("_t").removesuffix(" int").split()
    is_unsigned = words[0].startswith("u")
    name = " ".join(word for word in words if word not in ("signed", "unsigned")).removeprefix("u")
    code = f"u{_TYPES[name][1:]}" if is_unsigned else _TYPES[name]
    return np.dtype(code).newbyteorder(_ORDERS.get(str(header.get("endian")), "="))


def _calibration(header: Mapping[str, Any], names: list[str]) -> Calibration:
    sizes = _sizes(header, len(names))
    units = _units(header, len(names))
    of_axis = dict(zip(names, zip(sizes, units, strict=True), strict=True))
    along = [of_axis.get(axis, (None, None)) for axis in "zyx"]
    return calibrated([size for size, _ in along], [unit for _, unit in along])


def _sizes(header: Mapping[str, Any], count: int) -> list[float | None]:
    """Sizes of a voxel along all axes, the slowest first."""
    directions = header.get("space directions")
    if directions is not None:
        vectors = [np.asarray(vector, float) for vector in directions][::-1]
        sizes = [float(np.linalg.norm(vector)) for vector in vectors]
    else:
        sizes = [float(size) for size in header.get("spacings", [])][::-1]
    found = [size if np.isfinite(size) and size > 0 else None for size in sizes]
    return found if len(found) == count else [None] * count


def _units(header: Mapping[str, Any], count: int) -> list[str | None]:
    """Units of the axes; those of space are stated in the order of the world, and seldom differ."""
    of_space = header.get("space units")
    if of_space and len(set(of_space)) == 1:
        return [str(of_space[0])] * count
    units = [str(unit) for unit in header.get("units", [])][::-1]
    return list(units) if len(units) == count else [None] * count
