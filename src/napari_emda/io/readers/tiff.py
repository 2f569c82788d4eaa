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

import numpy as np
import tifffile
import zarr

from napari_emda.data.array import Array
from napari_emda.data.lazy import Lazy3D, SectionStack
from napari_emda.errors import DataError, listed, refusal
from napari_emda.io.axes import layout, raw_volume, volume_of
from napari_emda.io.equal_channels import EqualChannels
from napari_emda.io.location import WHOLE, Part, SeveralImages, chosen_scene
from napari_emda.io.raw_voxels import RawVoxels
from napari_emda.io.reader import MultiImageReader, readers
from napari_emda.io.tiff_axes import (
    PLAIN_KINDS,
    axis_names,
    ends_in_ones,
    is_stack_of_planes,
    notices,
    samples,
    shape_of,
)
from napari_emda.io.tiff_metadata import calibration, check_section_count, headers_agree, page_at
from napari_emda.io.units import Stored

# What tifffile raises, by experiment, on files that are cut short, corrupt or not TIFF at all.
UNREADABLE = (
    tifffile.TiffFileError,
    OSError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
    # ElementTree's error on OME-XML that is no XML is a SyntaxError.
    SyntaxError,
)


@readers.register("tiff")
class Tiff(MultiImageReader):
    """TIFF stacks and images, also OME-TIFF and BigTIFF, with the voxel size that Fiji shows."""

    formats: ClassVar = ("TIFF",)
    suffixes: ClassVar = (".tif", ".tiff")
    sections: ClassVar = True
    voxel_size: ClassVar = "metadata of OME, ImageJ, FEI and Zeiss; resolution"
    # A stack is what users choose most often, so it comes first in the list of formats.
    rank: ClassVar = 1

    @classmethod
    def open_part(cls, path: Path, part: Part) -> Stored:
        """A channel, time or scene; nothing is decoded yet. See `open_tiff`."""
        return open_tiff(path, part)


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
def open_tiff(path: Path, part: Part = WHOLE) -> Stored:
    """Open a TIFF stack or image: read where it is sliced, and decoded strip by strip.

    Args:
        path: an existing file.
        part: channel, time, and ``scene``, which is the number of an image in the file.

    Returns:
        (z, y, x) of the file's dtype, and the voxel size from its ImageJ or OME metadata.

    Raises:
        DataError: not a TIFF, cut short, in colour, more than three axes, pages that differ in
            shape or dtype, or another number of sections than the metadata state.
    """
    try:
        file = tifffile.TiffFile(path)
    except UNREADABLE as error:
        if (refused := refusal(error, path)) is not None:
            raise refused from None
        raise DataError(
            f"{path.name} is not a TIFF that can be read ({error}): save or copy it again."
        ) from None
    try:
        scene = chosen_scene(part, len(file.series), path.name)
        series = file.series[scene]
        _check_complete(file, series, path)
        check_section_count(file, series, path)
        array = _array(file, series, path, part)
        stored = Stored(
            array,
            *calibration(file, scene),
            notices=notices(series, array, part, path),
            in_colour=isinstance(array, EqualChannels),
        )
    except UNREADABLE as error:
        file.close()
        raise DataError(f"{path.name} is damaged or cut short ({error}): copy it again.") from None
    except BaseException:
        # Also when the user interrupts.
        file.close()
        raise
    # Decoding reads through the open file, which is therefore closed together with the array.
    if isinstance(stored.array, Lazy3D) and not isinstance(stored.array, RawVoxels):
        weakref.finalize(stored.array, file.close)
    else:
        file.close()
    return stored


def _array(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path, part: Part
) -> Array:
    if "scene" in part.at:
        pass
    elif len(file.series) > 1 and series.kind not in PLAIN_KINDS:
        _check_largest(file, path)
    elif len(file.series) > 1 or (series.dataoffset is None and _may_differ(file, series)):
        part.only(file=path.name)
        return _page_by_page(file, path)
    names = axis_names(series, part, path)
    shape = shape_of(series)
    in_colour = samples(series) > 1 and not is_stack_of_planes(series)
    scene = ["scene"]
    # tifffile states an offset only if all voxels follow each other in the file, uncompressed.
    if series.dataoffset is not None and not in_colour:
        dtype = series.dtype.newbyteorder(file.byteorder)
        return raw_volume(path, shape, names, part, dtype, series.dataoffset, also=scene)
    # Level 0 is the finest of a pyramid.
    data: Any = zarr.open_array(series.aszarr(level=0, squeeze=ends_in_ones(series)), mode="r")
    if in_colour:
        part.only(*scene, file=path.name)
        # Any colour will do to see whether there are other axes.
        sections = layout(shape, names, Part(at={"s": 0}), path.name).sections
        return EqualChannels(data, sections, names.index("s"), path.name)
    return volume_of(data, names, part, path.name, also=scene)


def _check_complete(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    """Raise DataError if the end of the file is missing, or voxels in it were never written.

    tifffile opens such a stack as a shorter one, or as black, without complaint.
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
        segments = [
            (offset, count)
            for page in series.pages
            if page
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
        ]
        end = max((offset + count for offset, count in segments), default=0)
        # A program that is ended while it writes leaves headers without voxels.
        if any(count == 0 for _, count in segments):
            raise DataError(
                f"{path.name} has sections without voxels, as if it was not written to its end: "
                "save or copy it again."
            )
    if end > size or not chain_ends:
        raise DataError(f"{path.name} is cut short ({_rest(series, size)}): copy it again.")


def _rest(series: tifffile.TiffPageSeries, size: int) -> str:
    """How much there is of a file that was cut short to a size in bytes."""
    # Only in a file without compression, every section has its place before it is read.
    if series.dataoffset is not None and len(series.shape) > 2:
        count = series.shape[0]
        section_bytes = math.prod(series.shape[1:]) * series.dtype.itemsize
        held = max(0, size - series.dataoffset) // section_bytes
        if held < count:
            return f"{held} of its {count} sections are there"
    return f"its end is missing after {size} bytes"


def _may_differ(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> bool:
    """Whether pages may have to be decoded in different ways."""
    # tifffile checks every page of an OME-TIFF itself. Colours are compared where they are read.
    return series.kind != "ome" and samples(series) == 1 and not headers_agree(file)


def _check_largest(file: tifffile.TiffFile, path: Path) -> None:
    """Raise SeveralImages if other series may be what is meant: smaller ones are thumbnails."""
    first = file.series[0]
    scenes = [scene for scene, series in enumerate(file.series) if series.size >= first.size]
    if len(scenes) > 1:
        largest = max((file.series[scene] for scene in scenes[1:]), key=lambda series: series.size)
        raise SeveralImages(
            f"{path.name} holds {len(scenes)} images, the first of {_size(first.shape)} and "
            f"another of {_size(largest.shape)}: choose one of them by its number from 0 on, as in "
            f"'{path.name}?scene=0'.",
            [Part(at={"scene": scene}) for scene in scenes],
        )


def _page_by_page(file: tifffile.TiffFile, path: Path) -> SectionStack:
    """The pages of a file as sections, also where each is compressed in another way.

    Raises:
        DataError: the pages are not the sections of one volume.
    """
    # tifffile's description belongs to an array that was written at once. Arrays of one section are
    # those of a loop; longer ones are several stacks in one file.
    counts = [len(series.pages) for series in file.series]
    if file.series[0].kind == "shaped" and len(counts) > 1 and max(counts) > 1:
        raise DataError(
            f"{path.name} holds {len(counts)} stacks (of {listed(list(map(str, counts[:3])))} "
            "sections), but one is needed: save it as a file of its own."
        )
    pages = [page_at(file, index) for index in range(len(file.pages))]
    shapes = sorted({page.shape for page in pages})
    if len(shapes) > 1:
        raise DataError(
            f"{path.name} holds sections of different shape ({_size(shapes[0])} and "
            f"{_size(shapes[-1])}), but a volume has sections of one shape: crop or pad them to "
            "the same size."
        )
    dtypes = sorted({str(page.dtype) for page in pages})
    if len(dtypes) > 1:
        raise DataError(
            f"{path.name} holds sections of different type ({listed(dtypes)}), but a volume has "
            "sections of one type: save all of them with the same number of bits."
        )
    if len({page.photometric for page in pages}) > 1 or len(shapes[0]) != 2:
        raise DataError(
            f"{path.name} holds sections whose values mean different things (black and white "
            "exchanged, or colours): save all of them as grey values in the same way."
        )
    # Several threads read sections, and all of them move the position in one open file.
    file.filehandle.set_lock(True)
    shape = (len(pages), *shapes[0])
    return SectionStack(lambda z: np.asarray(pages[z].asarray()), shape, np.dtype(dtypes[0]))


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
