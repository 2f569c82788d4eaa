"""Read TIFF strip by strip, with the voxel size of its ImageJ or OME metadata."""

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

# What tifffile raises, by experiment, on files that are cut short, corrupt or not TIFF at all.
UNREADABLE = (
    tifffile.TiffFileError,
    OSError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
)

# Fiji and many scripts store a plain stack along the channel axis, so a longer "channel" axis is
# taken for sections. Images seldom have more than 4 channels, and volumes seldom so few sections.
MOST_CHANNELS = 4


@readers.register("tiff")
class Tiff(Reader):
    """TIFF stacks and images, also OME-TIFF and BigTIFF, with the voxel size that Fiji shows."""

    formats: ClassVar = ("TIFF",)
    suffixes: ClassVar = (".tif", ".tiff")
    sections: ClassVar = True
    # A stack is what users choose most often, so it comes first in the list of formats.
    rank: ClassVar = 1

    @classmethod
    def open(cls, path: Path) -> Stored:
        """Map an uncompressed file, decode any other strip by strip; see `open_tiff`."""
        return open_tiff(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what tifffile logs on standard error: our DataError says it in one sentence."""
    logger = logging.getLogger("tifffile")
    was_disabled = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = was_disabled


@_quiet()
def open_tiff(path: Path) -> Stored:
    """Open a TIFF stack or image: a memory map if uncompressed, else decoded strip by strip.

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
    # A lazy array reads through the open file, which is therefore closed together with the array. A
    # memory map has its own handle.
    if isinstance(stored.array, AxisView):
        weakref.finalize(stored.array, file.close)
    else:
        file.close()
    return stored


def _array(file: tifffile.TiffFile, path: Path) -> Array:
    series = file.series[0]
    _check_complete(file, series, path)
    _check_one_shape(file, path)
    section_axis = _section_axis(series, path)
    # tifffile states an offset only if all voxels follow each other in the file, uncompressed.
    if series.dataoffset is not None:
        mapped: NDArray[Any] = np.memmap(
            path, series.dtype.newbyteorder(file.byteorder), "r", series.dataoffset, series.shape
        )
        return mapped.reshape((-1, *mapped.shape[-2:]))
    # Level 0 is the finest of a pyramid.
    return AxisView(zarr.open_array(series.aszarr(level=0), mode="r"), section_axis)


def _check_complete(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    """Raise DataError if the end of the file is missing.

    tifffile opens such a stack as a shorter one without complaint.
    """
    size = file.filehandle.size
    # Asking for the number of pages makes tifffile follow their chain to the end. A complete file
    # ends the chain with an offset of 0 (TIFF 6.0, section 2); a cut one points beyond its end.
    len(file.pages)
    file.filehandle.seek(file.pages.next_page_offset or 0)
    next_offset = file.filehandle.read(file.tiff.offsetsize)
    chain_ends = len(next_offset) == file.tiff.offsetsize and not any(next_offset)
    # The chain alone is not enough: some programs write the headers before the voxels.
    if series.dataoffset is not None:
        end = series.dataoffset + math.prod(series.shape) * series.dtype.itemsize
    else:
        # tifffile's pages are None where an OME-TIFF leaves out planes.
        segment_ends = (
            offset + count
            for page in series.pages
            if page
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
        )
        end = max(segment_ends, default=0)
    if end > size or not chain_ends:
        raise DataError(
            f"{path.name} is cut short (its end is missing after {size} bytes): copy it again."
        )


def _check_one_shape(file: tifffile.TiffFile, path: Path) -> None:
    shapes = sorted({series.shape for series in file.series})
    # In these kinds of TIFF, tifffile makes a series of each run of pages with the same shape. In
    # others (OME, ImageJ, scanners) further series are thumbnails or other images.
    if len(shapes) > 1 and file.series[0].kind in ("generic", "uniform", "shaped"):
        raise DataError(
            f"{path.name} holds sections of different shape ({shapes[0]} and {shapes[-1]}), but a "
            "volume has sections of one shape: crop or pad them to the same size."
        )


def _section_axis(series: tifffile.TiffPageSeries, path: Path) -> int | None:
    """The axis to use as z; None for a single section.

    Raises:
        DataError: this is no volume of grey values.
    """
    axes = series.axes
    shape = series.shape
    samples = dict(zip(axes, shape, strict=True)).get("S", 1)
    if samples > 1:
        # With the samples first (planar), it may be a stack saved as colour by mistake: tifffile
        # writes three or four sections of uint8 as RGB or RGBA unless it is told not to.
        alternative = (
            ", or save it as a stack of grey sections if that is what it is"
            if axes[0] == "S"
            else ""
        )
        raise DataError(
            f"{path.name} is a colour image ({samples} values a pixel): convert it to grey values"
            f"{alternative}."
        )
    long_axes = [axis for axis, n in enumerate(shape[:-2]) if n > 1]
    if axes[-2:] != "YX" or len(long_axes) > 1:
        sizes = ", ".join(f"{name} {n}" for name, n in zip(axes, shape, strict=True))
        raise DataError(
            f"{path.name} has {len(shape)} axes ({sizes}), but a volume has z, y and x: save one "
            "channel of one time point."
        )
    if not long_axes:
        return None
    (section_axis,) = long_axes
    if axes[section_axis] == "C" and shape[section_axis] <= MOST_CHANNELS:
        raise DataError(
            f"{path.name} has {shape[section_axis]} channels, but a volume has one: save a single "
            "channel."
        )
    return section_axis


def _calibration(file: tifffile.TiffFile) -> tuple[Spacing, str | None] | tuple[None, None]:
    if file.is_ome and file.ome_metadata:
        return _ome_calibration(file.ome_metadata)
    if file.is_imagej:
        return _imagej_calibration(file)
    # Plain resolution tags say nothing about z, and mostly hold a printer's default (72 or 96 dpi).
    return None, None


def _ome_calibration(xml: str) -> tuple[Spacing, str | None] | tuple[None, None]:
    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    if pixels is None:
        return None, None
    sizes = [pixels.get(f"PhysicalSize{axis}") for axis in "ZYX"]
    # The OME schema defines µm as the default unit.
    units = [pixels.get(f"PhysicalSize{axis}Unit", "\u00b5m") for axis in "ZYX"]
    return calibrated([None if size is None else float(size) for size in sizes], units)


def _imagej_calibration(file: tifffile.TiffFile) -> tuple[Spacing, str | None] | tuple[None, None]:
    metadata = file.imagej_metadata or {}
    tags = file.pages.first.tags
    unit = metadata.get("unit")
    if unit is None and "ResolutionUnit" in tags:
        # The codes of TIFF 6.0; 1 means "no absolute unit".
        unit = {2: "inch", 3: "cm"}.get(int(tags["ResolutionUnit"].value))
    sizes: list[float | None] = [metadata.get("spacing")]
    for name in ("YResolution", "XResolution"):
        # A resolution is pixels per unit, as a fraction.
        pixels, length = tags[name].value if name in tags else (0, 1)
        sizes.append(length / pixels if pixels else None)
    return calibrated(sizes, [unit] * 3)
