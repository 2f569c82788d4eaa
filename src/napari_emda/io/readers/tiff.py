"""TIFF in, strip by strip, with the voxel size of its ImageJ or OME metadata."""

from __future__ import annotations

import logging
import math
import struct
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.lazy import AxisView
from napari_emda.data.voxel_grid import Spacing
from napari_emda.errors import DataError
from napari_emda.io.reader import Reader, readers
from napari_emda.io.units import Stored, calibrated

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


@readers.register("tiff")
class Tiff(Reader):
    """TIFF stacks and images, also OME-TIFF and BigTIFF, with the voxel size that Fiji shows."""

    formats: ClassVar = ("TIFF",)
    suffixes: ClassVar = (".tif", ".tiff")
    sections: ClassVar = True
    # A stack is what is chosen most often, so it comes first in the list of what can be opened.
    rank: ClassVar = 1

    @classmethod
    def open(cls, path: Path) -> Stored:
        """A memory map where it is uncompressed, else decoded strip by strip; see `open_tiff`."""
        return open_tiff(path)


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
