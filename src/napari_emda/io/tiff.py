"""TIFF in and out, section by section, with the voxel size that Fiji shows."""

from __future__ import annotations

import logging
import math
import os
import struct
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
import zarr
from numpy.typing import DTypeLike, NDArray

from napari_emda.data.lazy import AxisView
from napari_emda.data.volume import Array
from napari_emda.errors import DataError
from napari_emda.io.atomic import replacing_file
from napari_emda.io.units import Spacing, Stored, calibrated

UNREADABLE = (
    tifffile.TiffFileError,
    OSError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
)
"""What tifffile raises, by experiment, on files that are cut short, corrupt or not TIFF at all."""

MOST_CHANNELS = 4
"""More "channels" than this are sections: Fiji and many scripts store a plain stack along the channel axis."""

CLASSIC_LIMIT = 2**32 - 2**25
"""Bytes of voxels that surely fit a classic TIFF (4 GiB) together with its page headers."""

IMAGEJ_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
WRITABLE_TYPES = (*IMAGEJ_TYPES, np.dtype(np.uint32))
# Bytes of sections that may wait to be compressed (at least two sections do). Untold, tifffile lets half a GiB wait.
_WAITING = 2**26


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tifffile from saying on standard error, in its own words, what our one sentence says."""
    logger = logging.getLogger("tifffile")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@_quiet()
def open_tiff(path: Path) -> Stored:
    """Open a TIFF stack or image: a memory map where it is uncompressed, else decoded strip by strip.

    Args:
        path: an existing file.

    Returns:
        (z, y, x) of the file's dtype, and the voxel size from its ImageJ or OME metadata.

    Raises:
        DataError: not a TIFF, cut short, RGB, more than three axes, or pages of different shape.
    """
    try:
        file = tifffile.TiffFile(path)
    except UNREADABLE as error:
        raise DataError(
            f"{path.name} is not a TIFF that can be read ({error}): save or copy it again."
        ) from None
    try:
        stored = Stored(_array(file, path), *_calibration(file))
    except DataError:
        file.close()
        raise
    except UNREADABLE as error:
        file.close()
        raise DataError(f"{path.name} is damaged or cut short ({error}): copy it again.") from None
    if isinstance(stored.array, AxisView):
        weakref.finalize(stored.array, file.close)
    else:
        file.close()
    return stored


def _array(file: tifffile.TiffFile, path: Path) -> Array:
    series = file.series[0]
    _check_complete(file, series, path)
    _check_one_shape(file, path)
    sections = _section_axis(series, path)
    if series.dataoffset is not None:
        mapped: NDArray[Any] = np.memmap(
            path, series.dtype.newbyteorder(file.byteorder), "r", series.dataoffset, series.shape
        )
        return mapped.reshape((-1, *mapped.shape[-2:]))
    # One level only: the finest of a pyramid.
    return AxisView(zarr.open_array(series.aszarr(level=0), mode="r"), sections)


def _check_complete(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    """A stack whose end is missing opens as a shorter one without complaint; here it does not."""
    size = file.filehandle.size
    len(file.pages)  # follows the chain of pages to its end
    file.filehandle.seek(file.pages.next_page_offset or 0)
    stored = file.filehandle.read(file.tiff.offsetsize)
    chain_ends = len(stored) == file.tiff.offsetsize and not any(stored)
    if series.dataoffset is not None:
        end = series.dataoffset + math.prod(series.shape) * series.dtype.itemsize
    else:
        spans = (
            (o + n for o, n in zip(p.dataoffsets, p.databytecounts, strict=False))
            for p in series.pages
            if p
        )
        end = max((max(span, default=0) for span in spans), default=0)
    if end > size or not chain_ends:
        raise DataError(
            f"{path.name} is cut short (its end is missing after {size} bytes): copy it again."
        )


def _check_one_shape(file: tifffile.TiffFile, path: Path) -> None:
    shapes = sorted({series.shape for series in file.series})
    if len(shapes) > 1 and file.series[0].kind in ("generic", "uniform", "shaped"):
        raise DataError(
            f"{path.name} holds sections of different shape ({shapes[0]} and {shapes[-1]}), but a volume has one:"
            " crop or pad them to the same size."
        )


def _section_axis(series: tifffile.TiffPageSeries, path: Path) -> int | None:
    """The axis to take as z (None: a single section), or why this is no volume of grey values."""
    axes, shape = series.axes, series.shape
    samples = dict(zip(axes, shape, strict=True)).get("S", 1)
    if samples > 1:
        sections = (
            ", or save it as a stack of grey sections if that is what it is"
            if axes[0] == "S"
            else ""
        )
        raise DataError(
            f"{path.name} is a colour image ({samples} values a pixel): convert it to grey values{sections}."
        )
    long = [i for i, n in enumerate(shape[:-2]) if n > 1]
    if axes[-2:] != "YX" or len(long) > 1:
        sizes = ", ".join(f"{name} {n}" for name, n in zip(axes, shape, strict=True))
        raise DataError(
            f"{path.name} has {len(shape)} axes ({sizes}), but a volume has z, y and x: save one channel of one"
            " time point."
        )
    if not long:
        return None
    if axes[long[0]] == "C" and shape[long[0]] <= MOST_CHANNELS:
        raise DataError(
            f"{path.name} has {shape[long[0]]} channels, but a volume has one: save a single channel."
        )
    return long[0]


def _calibration(file: tifffile.TiffFile) -> tuple[Spacing, str | None] | tuple[None, None]:
    if file.is_ome and file.ome_metadata:
        return _ome_calibration(file.ome_metadata)
    if file.is_imagej:
        return _imagej_calibration(file)
    # Plain resolution tags know no z, and are as a rule those of a printer.
    return None, None


def _ome_calibration(xml: str) -> tuple[Spacing, str | None] | tuple[None, None]:
    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    if pixels is None:
        return None, None
    sizes = [pixels.get(f"PhysicalSize{axis}") for axis in "ZYX"]
    units = [
        pixels.get(f"PhysicalSize{axis}Unit", "\u00b5m") for axis in "ZYX"
    ]  # the default that OME-XML defines
    return calibrated([None if size is None else float(size) for size in sizes], units)


def _imagej_calibration(file: tifffile.TiffFile) -> tuple[Spacing, str | None] | tuple[None, None]:
    metadata, tags = file.imagej_metadata or {}, file.pages.first.tags
    unit = metadata.get("unit")
    if unit is None and "ResolutionUnit" in tags:
        unit = {2: "inch", 3: "cm"}.get(int(tags["ResolutionUnit"].value))
    sizes: list[float | None] = [metadata.get("spacing")]
    for name in ("YResolution", "XResolution"):
        pixels, length = tags[name].value if name in tags else (0, 1)
        sizes.append(length / pixels if pixels else None)
    return calibrated(sizes, [unit] * 3)


def write_tiff(
    path: Path | str,
    sections: Iterable[NDArray[Any]],
    shape: tuple[int, int, int],
    dtype: DTypeLike,
    spacing: Spacing | None = None,
    unit: str | None = None,
    *,
    depth: bool = True,
) -> None:
    """Write sections one by one to a zlib-compressed TIFF that Fiji opens with its voxel size.

    8- and 16-bit integers and floats up to 4 GiB become an ImageJ TIFF, which ImageJ, Fiji and napari open directly and
    calibrated. ImageJ's format knows neither 32-bit integers nor more than 4 GiB of compressed voxels: those become an
    OME-TIFF (BigTIFF where needed), which Fiji opens through Bio-Formats. Both can be streamed: all their metadata is
    known before the first section.

    The file appears under its name when it is complete, or not at all.

    Args:
        path: where to; its folder exists; an older file is replaced.
        sections: ``shape[0]`` arrays of (y, x); values are cast to ``dtype``.
        shape: sections, rows, columns.
        dtype: uint8, uint16, uint32 or float32.
        spacing: voxel size along z, y, x.
        unit: of ``spacing``.
        depth: whether the first axis is depth; if not, its size is left out.

    Raises:
        DataError: another dtype, sections of another shape or number, or a folder that cannot be written.
    """
    path, dtype = Path(path), np.dtype(dtype)
    if dtype not in WRITABLE_TYPES:
        names = ", ".join(t.name for t in WRITABLE_TYPES)
        raise DataError(f"A TIFF cannot be written as {dtype.name}: choose one of {names}.")
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"'{path}' cannot be written: choose another folder.")
    nbytes = math.prod(shape) * dtype.itemsize
    checked = _checked(sections, shape, dtype)
    imagej = dtype in IMAGEJ_TYPES and nbytes < CLASSIC_LIMIT
    with (
        replacing_file(path) as partial,
        tifffile.TiffWriter(
            partial, imagej=imagej, ome=not imagej, bigtiff=nbytes >= CLASSIC_LIMIT
        ) as writer,
    ):
        writer.write(
            map(np.ascontiguousarray, checked),  # hides the generator, which tifffile would close
            dtype=dtype,
            compression="zlib",
            photometric="minisblack",
            buffersize=_WAITING,
            **(_imagej_options if imagej else _ome_options)(shape, spacing, unit, depth),
        )
        next(checked, None)  # tifffile takes what it needs: one section too many shows only here


def _imagej_options(
    shape: tuple[int, int, int], spacing: Spacing | None, unit: str | None, depth: bool
) -> dict[str, Any]:
    # All six axes of ImageJ: of fewer, tifffile takes a last one of length 1 for colours.
    sections, rows, columns = shape
    options: dict[str, Any] = {
        "shape": (1, sections, 1, rows, columns, 1),
        "metadata": {"axes": "TZCYXS"},
    }
    if spacing is None:
        return options
    z, y, x = spacing
    # ImageJ escapes what is not ASCII, and so must we: the description of a TIFF is ASCII.
    name = (
        (unit or "pixel").encode("ascii", "backslashreplace").decode().replace("\\xb5", "\\u00B5")
    )
    return options | {
        "metadata": {"axes": "TZCYXS", "unit": name} | ({"spacing": z} if depth else {}),
        "resolution": (1 / x, 1 / y),
        "resolutionunit": 1,
    }


def _ome_options(
    shape: tuple[int, int, int], spacing: Spacing | None, unit: str | None, depth: bool
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": "ZYX"}
    known = list(zip("ZYX", spacing or (), strict=False))[0 if depth else 1 :]
    for axis, size in known:
        metadata[f"PhysicalSize{axis}"] = size
        # Without a unit OME-XML means micrometres, which nobody said.
        metadata[f"PhysicalSize{axis}Unit"] = unit or "pixel"
    return {"shape": shape, "metadata": metadata}


def _checked(
    sections: Iterable[NDArray[Any]], shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> Iterator[Any]:
    count = 0
    for section in sections:
        if count == shape[0] or section.shape != shape[1:]:
            raise DataError(
                f"Section {count} of {section.shape} does not belong to a volume of {shape}: give {shape[0]} sections"
                f" of {shape[1:]}."
            )
        count += 1
        yield np.asarray(section, dtype)
    if count < shape[0]:
        raise DataError(f"Only {count} of {shape[0]} sections were given: give all of them.")
